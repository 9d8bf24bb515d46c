"""Spans without the user's help: what `afterglow run` puts round a program, and into it."""
