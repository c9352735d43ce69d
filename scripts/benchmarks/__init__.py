"""What the library claims, measured: ``python scripts/benchmark.py NAME``."""
