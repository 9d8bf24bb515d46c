"""Spans in: the faces (HTTP, gRPC, Kafka), and the one Intake behind them (docs/otlp-in.md)."""
