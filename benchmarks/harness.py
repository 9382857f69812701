"""What every benchmark shares: variants timed in turn, and a record of the machine they ran on.

Machines are shared and noisy, so a figure counts only against the other variants of the same run,
which are timed one after the other, round by round; medians and spreads are kept.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import importlib.metadata
import math
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable

from msi2he_jax.io_safety import write_json

LEAST_S = 0.2
SLOW_S = 60.0  # a first call above this is not made once more only to see how long it takes
RESULTS = pathlib.Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-image", "pyimzml", "torch")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to do the work.

    Attributes:
        name: What the table calls it.
        call: Does the work once and returns only when it is done.
        items: How much work one call does, in the benchmark's unit.
        peer: Whether it is somebody else's code.
        facts: What else the record tells of it, such as `compile_s`; `gflop` (per item) and `dtype`
            make `save` add the speed in GFLOP/s and its share of the matrix product's, `mfu`.
    """

    name: str
    call: Callable[[], object]
    items: float = 1.0
    peer: bool = False
    facts: dict = dataclasses.field(default_factory=dict)


def measure(variants: list[Variant], *, rounds: int = 5, warm_up: int = 1) -> list[dict]:
    """Times variants in turn.

    Args:
        variants: The ways to compare; the first is the one others are set against.
        rounds: How often each is timed; calls shorter than `LEAST_S` are repeated for as long, and
            their mean is one time.
        warm_up: Untimed calls before; the first one's seconds are kept, since it compiles. 0 where
            all were called already.

    Returns:
        One record a variant: name, peer, first_s, median_s, low_s, high_s, items_per_s, ratio (how
        many times faster than it the first variant is, by medians).
    """
    first = {v.name: _seconds(v.call) for v in variants if warm_up}
    for variant in variants:
        for _ in range(warm_up - 1):
            variant.call()
    repeats, times = {}, {}
    for v in variants:
        slow = first.get(v.name, 0) >= SLOW_S
        repeats[v.name], times[v.name] = (1, []) if slow else _probe(v.call)
    for number in range(rounds):
        for variant in variants:
            if len(times[variant.name]) <= number:
                times[variant.name].append(_seconds(variant.call, repeats[variant.name]))
    return _records(variants, first, times)


def _probe(call: Callable[[], object]) -> tuple[int, list[float]]:
    """How many calls make one time: a few milliseconds are mostly waking threads and caches.

    Where one call is long enough, its seconds are the first time.
    """
    seconds = _seconds(call)
    repeats = max(1, min(1000, math.ceil(LEAST_S / max(seconds, 1e-6))))
    return repeats, [seconds] if repeats == 1 else []


def _records(variants: list[Variant], first: dict, times: dict) -> list[dict]:
    per_item = {v.name: statistics.median(times[v.name]) / v.items for v in variants}
    base = per_item[variants[0].name]
    return [
        {
            "name": variant.name,
            "peer": variant.peer,
            "first_s": first.get(variant.name),
            "median_s": statistics.median(times[variant.name]),
            "low_s": min(times[variant.name]),
            "high_s": max(times[variant.name]),
            "items_per_s": 1 / per_item[variant.name],
            "ratio": per_item[variant.name] / base,
            **variant.facts,
        }
        for variant in variants
    ]


def _seconds(call: Callable[[], object], repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def run_tables(
    jobs: dict[str, Callable[[], dict]],
    budget_s: float = 1e9,
    keep: Callable[[dict, dict], object] = lambda tables, missing: None,
) -> tuple[dict, dict]:
    """Makes tables until the time is used up; one that fails does not take the others along.

    Args:
        jobs: Title -> what makes its table.
        budget_s: No table is begun later than this, s.
        keep: Given what is returned after every table: what is cut off keeps the tables it made.

    Returns:
        The tables, and why others are missing, by title.
    """
    tables, missing, begin = {}, {}, time.monotonic()
    for title, make in jobs.items():
        spent = time.monotonic() - begin
        if spent > budget_s:
            missing[title] = f"not begun: {spent:.0f} s of {budget_s:.0f} s were spent"
            continue
        try:
            tables[title] = make()
        except Exception as error:  # whatever a library of the machine may raise
            missing[title] = f"{type(error).__name__}: {str(error)[:300]}"
        print(f"{title}: {missing.get(title) or f'{time.monotonic() - begin - spent:.0f} s'}")
        keep(tables, missing)
    return tables, missing


@functools.cache
def environment() -> dict:
    """Returns machine, versions, revision, and readings of matrix product and copy of this run.

    Read once in a process.
    """
    import jax

    return {
        "date": datetime.date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "backend": jax.default_backend(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "revision": _revision(),
        "driver": _driver(),
        "gemm_gflops": _gemm_gflops(),
        "gemm_bfloat16_gflops": _gemm_gflops(dtype="bfloat16"),
        "copy_gb_per_s": _copy_gb_per_s(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine_words(environment: dict) -> str:
    """Returns what a result was measured on: `2 CPU cores`, or the card's name.

    Args:
        environment: From `environment`.
    """
    cpu = environment["backend"] == "cpu"
    cores = environment["cores"]
    return f"{cores} CPU core{'s' * (cores != 1)}" if cpu else environment["device"]


def _revision() -> str | None:
    folder = pathlib.Path(__file__).parent
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None


def _driver() -> str | None:
    """Returns the graphics driver's version, or None where there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    except OSError:
        return None


def _gemm_gflops(dtype: str = "float32") -> float:
    """Reads the matrix product's speed: what the convolutions of this run can hope for."""
    import jax
    import jax.numpy as jnp

    side = 2048 if jax.default_backend() == "cpu" else 8192
    a = jnp.ones((side, side), dtype)
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


def peak_device_memory_gib() -> float | None:
    """Returns the most memory of the first device used so far, GiB, where the backend tells."""
    import jax

    found = jax.local_devices()[0].memory_stats() or {}
    peak = found.get("peak_bytes_in_use")
    return None if peak is None else round(peak / 2**30, 2)


def save(
    name: str, tables: dict[str, dict], missing: dict | None = None, **more: object
) -> pathlib.Path:
    """Writes one benchmark's tables with the machine's record; returns the file.

    Args:
        name: The benchmark, such as "metrics".
        tables: Title -> {"unit": what an item is, "rows": records of `measure`}.
        missing: Title -> why there is no such table.
        **more: Further parts of the record.
    """
    machine = environment()
    for row in (row for table in tables.values() for row in table["rows"] if "gflop" in row):
        wide = row["dtype"] != "bfloat16"
        row["gflop_per_s"] = row["gflop"] * row["items_per_s"]
        peak = machine["gemm_gflops" if wide else "gemm_bfloat16_gflops"]
        row["mfu"] = row["gflop_per_s"] / peak / row.get("devices", 1)
    record = {"benchmark": name, "environment": machine, "tables": tables, **more}
    record |= {"missing": missing} if missing else {}
    record["peak_memory_gib"] = round(peak_memory_gib(), 2)
    record["peak_device_memory_gib"] = peak_device_memory_gib()
    path = RESULTS / f"{name}_{record['environment']['backend']}.json"
    write_json(path, record)
    return path
