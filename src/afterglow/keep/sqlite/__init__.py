"""The back end in a SQLite file: the one that the recorder's spans are in, if need be."""
