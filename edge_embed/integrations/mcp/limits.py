"""How much one call of the MCP server may take and give."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one call takes and gives at most.

    message:    bytes of one message of a client
    characters: of texts and metadata in one answer; about four are a token of a language model
    documents:  that one call adds
    text:       characters of one document that is added
    keys:       that one call forgets
    hits:       of one search
    listed:     documents that one call lists
    resources:  on one page of the list of resources
    resource:   characters of the text of one resource, which is given as a whole
    seconds:    that a call waits for another process that writes to the index
    calls:      that run at the same time
    """

    message: int = 32_000_000
    characters: int = 20_000
    documents: int = 100
    text: int = 200_000
    keys: int = 1000
    hits: int = 100
    listed: int = 100
    resources: int = 100
    resource: int = 1_000_000
    seconds: float = 30.0
    calls: int = 4

    @property
    def metadata(self) -> int:
        """Characters of metadata beside the text of one document."""
        return self.characters // 4

    @property
    def field(self) -> int:
        """Characters of one field of the metadata among several documents."""
        return self.characters // 10

    @property
    def read(self) -> int:
        """Characters of the text of one document."""
        return self.characters - self.metadata
