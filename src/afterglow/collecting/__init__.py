"""Joins `afterglow serve`: faces, intake, buffer, flushers, sinks, retention (docs/collect.md)."""
