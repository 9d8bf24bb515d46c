"""Frozen values: what the rooms above pass to each other. No clock, thread, file or socket."""
