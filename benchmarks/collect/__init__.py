"""`afterglow serve` from OTLP in to the store out, beside the OpenTelemetry Collector."""
