"""Throughput benchmarks: ratios inside one run, variants in turn, machine and versions recorded."""
