"""Readers and writers of documents and vectors."""
