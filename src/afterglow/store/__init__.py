"""The SQLite files: journals that processes write, and the database that people read."""
