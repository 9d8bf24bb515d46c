"""Span buffers: spans wait here until their trees are there (docs/architecture.md)."""
