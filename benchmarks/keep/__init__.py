"""What a trace store costs, at sizes that differ a thousandfold (see benchmarks/README.md)."""
