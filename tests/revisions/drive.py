"""Runs a verb of the revision on PYTHONPATH, with files cut into ranges of RANGE_BYTES bytes."""

import importlib
import os
import sys

from msi2he_jax.msi import ranges

ranges.RANGE_BYTES = int(os.environ["RANGE_BYTES"])
sys.exit(importlib.import_module(f"msi2he_jax.{sys.argv[1]}").main(sys.argv[2:]))
