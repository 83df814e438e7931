"""Processes that `benchmarks/peers.py` measures: one library in each, asked over its stdin."""
