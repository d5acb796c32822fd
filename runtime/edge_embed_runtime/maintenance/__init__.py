"""Verify, repair, compact, rebuild, reembed."""
