"""An MCP server for one index: its documents as tools and resources of programs with a language model."""
