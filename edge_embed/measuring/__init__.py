"""Processes that measure this device, and figures of retrieval quality."""
