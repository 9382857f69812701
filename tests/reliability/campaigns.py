"""Runs a campaign by hand: `python tests/reliability/campaigns.py NAME [--count=N] [--seed=N]`.

Each tries to break one promise of docs/reliability.md, at random but for the seed, and prints what
it found as JSON. Exit code 0: the promise was kept every time; 1: it was not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import sys
import tempfile
import time

# Name: module, function, count by default.
CAMPAIGNS = {
    "mutants": ("mutants", "campaign", 20_000),
    "torch_mutants": ("torch_mutants", "campaign", 200_000),
    "bit_flips": ("flips", "campaign", 1_000),
    "kill_training": ("kills", "training", 200),
    "kill_build": ("kills", "build", 60),
    "locks": ("locks", "campaign", 40),
    "signals": ("kills", "signals", 20),
    "full_disk": ("writes", "campaign", 0),
    "hostile": ("hostile", "campaign", 0),
    "json_types": ("json_types", "campaign", 700),
    "soak": ("soak", "campaign", 6_000),
    "soak_streamed": ("soak", "streamed", 6_000),
}


def main() -> int:
    """Runs one campaign; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CAMPAIGNS)
    parser.add_argument("--count", type=int, help="How many rounds; 0: as many as there are.")
    parser.add_argument("--long", action="store_true", help="1,000,000 mutants.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    module, function, count = CAMPAIGNS[options.name]
    count = count if options.count is None else options.count
    count = 1_000_000 if options.long else count
    # Memory where there is some: the campaigns are about what is written, not about the disk.
    place = "/dev/shm" if pathlib.Path("/dev/shm").is_dir() else None
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=place, prefix="msi2he-") as folder:
        campaign = getattr(importlib.import_module(module), function)
        result = campaign(count, options.seed, pathlib.Path(folder))
    result["seconds"] = round(time.monotonic() - begin, 1)
    print(json.dumps({"campaign": options.name, "seed": options.seed, **result}, indent=1))
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
