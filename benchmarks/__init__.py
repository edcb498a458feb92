"""Throughput and memory of training and evaluation against stock transformers: `python -m benchmarks.throughput`."""
