"""Where batches can go besides the journal: memory, BeaverDB."""
