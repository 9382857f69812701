"""Seconds that commands take to start:  python -m benchmarks.bench_import"""

from __future__ import annotations

import subprocess
import sys

from benchmarks import harness
from benchmarks.harness import Variant

STATEMENTS = ("import msi2he_jax", "import jax", "import msi2he_jax.training.loop")
VERBS = ("train", "synthesize", "register", "doctor")


def _call(*words: str):
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)


def table(rounds: int = 5) -> dict:
    """Times starting Python alone, imports, and `--help` of verbs, in turn."""
    variants = [Variant("python -c pass", _call("-c", "pass"))]
    variants += [Variant(words, _call("-c", words)) for words in STATEMENTS]
    variants += [
        Variant(f"{verb} --help", _call("-m", f"msi2he_jax.{verb}", "--help")) for verb in VERBS
    ]
    return {"unit": "starts", "rows": harness.measure(variants, rounds=rounds)}


def main() -> None:
    """Runs the table and prints where it is stored."""
    print(harness.save("import", {"starting a command": table()}))


if __name__ == "__main__":
    main()
