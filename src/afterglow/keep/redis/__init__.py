"""Copies of entries in Redis, before the back end in PostgreSQL."""
