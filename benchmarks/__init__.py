"""Throughput benchmarks: ratios inside one run, variants in turn, machine and versions recorded."""

from benchmarks import stand_in

stand_in.install()
