"""Flushers take segments that are due, write them to a sink, and are watched by a supervisor."""
