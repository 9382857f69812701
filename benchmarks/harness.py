"""What every benchmark shares: variants timed in turn, and a record of the machine they ran on.

Machines are shared and noisy, so a figure counts only against the other variants of the same run,
which are timed one after the other, round by round; medians and spreads are kept.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable

from msi2he_jax.io_safety import write_json

RESULTS = pathlib.Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-image", "pyimzml")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to do the work.

    Attributes:
        name: What the table calls it.
        call: Does the work once and returns only when it is done.
        items: How much work one call does, in the benchmark's unit.
        peer: Whether it is somebody else's code.
    """

    name: str
    call: Callable[[], object]
    items: float = 1.0
    peer: bool = False


def measure(variants: list[Variant], *, rounds: int = 5, warm_up: int = 1) -> list[dict]:
    """Times variants in turn.

    Args:
        variants: The ways to compare; the first is the one others are set against.
        rounds: How often each is timed.
        warm_up: Untimed calls before; the first one's seconds are kept, since it compiles.

    Returns:
        One record a variant: name, peer, first_s, median_s, low_s, high_s, items_per_s, ratio (how
        many times faster than it the first variant is, by medians).
    """
    first = {variant.name: _seconds(variant.call) for variant in variants}
    for variant in variants:
        for _ in range(warm_up - 1):
            variant.call()
    times = {variant.name: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            times[variant.name].append(_seconds(variant.call))
    return _records(variants, first, times)


def _records(variants: list[Variant], first: dict, times: dict) -> list[dict]:
    per_item = {v.name: statistics.median(times[v.name]) / v.items for v in variants}
    base = per_item[variants[0].name]
    return [
        {
            "name": variant.name,
            "peer": variant.peer,
            "first_s": first[variant.name],
            "median_s": statistics.median(times[variant.name]),
            "low_s": min(times[variant.name]),
            "high_s": max(times[variant.name]),
            "items_per_s": 1 / per_item[variant.name],
            "ratio": per_item[variant.name] / base,
        }
        for variant in variants
    ]


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def environment() -> dict:
    """Returns machine, versions, revision, and readings of matrix product and copy of this run."""
    import jax

    return {
        "date": datetime.date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "backend": jax.default_backend(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "revision": _revision(),
        "gemm_gflops": _gemm_gflops(),
        "copy_gb_per_s": _copy_gb_per_s(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    folder = pathlib.Path(__file__).parent
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None


def _gemm_gflops(side: int = 2048) -> float:
    """Reads the f32 matrix product's speed: what the convolutions of this run can hope for."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((side, side), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    seconds = min(_seconds(lambda: product(a).block_until_ready()) for _ in range(5))
    return 2 * side**3 / seconds / 1e9


def _copy_gb_per_s(megabytes: int = 256) -> float:
    """Reads the memory's speed, counting bytes read and written."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((megabytes * 2**18,), jnp.float32)
    copy = jax.jit(lambda a: a + 1)
    copy(a).block_until_ready()
    seconds = min(_seconds(lambda: copy(a).block_until_ready()) for _ in range(5))
    return 2 * a.nbytes / seconds / 1e9


def peak_memory_gib() -> float:
    """Returns this process's largest resident memory so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def save(name: str, tables: dict[str, dict]) -> pathlib.Path:
    """Writes one benchmark's tables with the machine's record; returns the file.

    Args:
        name: The benchmark, such as "metrics".
        tables: Title -> {"unit": what an item is, "rows": records of `measure`}.
    """
    record = {"benchmark": name, "environment": environment(), "tables": tables}
    record["peak_memory_gib"] = round(peak_memory_gib(), 2)
    path = RESULTS / f"{name}_{record['environment']['backend']}.json"
    write_json(path, record)
    return path
