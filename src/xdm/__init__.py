"""Candidate retrieval from exposure logs: from what people click, and from what they are shown and skip."""

__version__ = "0.1.0"
