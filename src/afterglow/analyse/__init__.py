"""Statistics and trees: pure, over iterators. No clock, thread, file or socket."""
