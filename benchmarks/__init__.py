"""Measurements against named peers; each writes its table to docs/benchmarks.md."""
