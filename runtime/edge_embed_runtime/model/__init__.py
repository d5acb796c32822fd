"""A model that runs: protocol and loader, session, network, static, batching, budget, deadline, golden."""
