"""From the hand-over to a sink: when (batcher), what (prepare, state), how (delivery), by whom."""
