"""Traces that fade in PostgreSQL, shared by many processes."""
