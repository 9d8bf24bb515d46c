"""What the span buffer costs, in memory and on a Redis Cluster (see benchmarks/README.md)."""
