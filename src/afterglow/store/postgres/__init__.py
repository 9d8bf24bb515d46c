"""Spans in PostgreSQL, for many collectors: what `store/` is for one file."""
