"""OTLP: what senders send, read, checked and put together again."""
