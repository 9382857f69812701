"""Rounds of a campaign: children forked from one process that has imported everything already.

JAX starts its threads when a device is first used, which only the children do: forking is safe, and
a round costs no import.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Callable

HEAVY = (
    "tensorflow_datasets",
    "orbax.checkpoint",
    "msi2he_jax.data.cohort",
    "msi2he_jax.data.builder",
    "msi2he_jax.training.loop",
    "msi2he_jax.preprocess",
    "msi2he_jax.simulate",
    "msi2he_jax.train",
)


def load() -> None:
    """Imports what children will need."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for name in HEAVY:
        importlib.import_module(name)


HANGS_S = 1800.0  # A computer that is busy with other work makes rounds slow, too.


def start(action: Callable[[], int | None], log: pathlib.Path) -> int:
    """Forks a child that does `action`, its output in `log`; returns its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        code = action() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(child: int, limit_s: float = HANGS_S) -> int:
    """Returns the exit code of a child, or minus the signal that ended it; kills it at the limit.

    Raises:
        TimeoutError: it hung.
    """
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError(f"no end after {limit_s:g} s")


def run(action: Callable[[], int | None], log: pathlib.Path, limit_s: float = HANGS_S) -> int:
    """Does `action` in a child; returns its exit code."""
    return wait(start(action, log), limit_s)


def train(workdir: pathlib.Path, config: pathlib.Path, *words: str) -> int:
    """The verb `train`, as a command line runs it, with every compiled program kept."""
    import jax

    from msi2he_jax import train
    from msi2he_jax.training import parallel

    def keep_all() -> None:
        jax.config.update("jax_compilation_cache_dir", os.environ["MSI2HE_CACHE"])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

    parallel.use_compilation_cache = keep_all
    return train.main([f"--config={config}", f"--workdir={workdir}", *words])


def prepare(folder: pathlib.Path, *, plain: bool = False, **changes: int) -> pathlib.Path:
    """Makes a tiny cohort, its data set `folder/pairs` and a configuration; returns the latter.

    Args:
        folder: Where.
        plain: Without a discriminator and normalisation, which take long to trace.
        changes: Of the section `train`.
    """
    config = folder / "tiny.json"
    os.environ["MSI2HE_CACHE"] = str(folder / "cache")

    def make() -> None:
        from msi2he_jax import preprocess, simulate

        flags = ["--sections=6", "--grid=24", "--histology-um-per-px=12.5", "--seed=3"]
        assert simulate.main([f"--out={folder / 'cohort'}", *flags]) == 0
        flags = [f"--manifest={folder / 'cohort' / 'manifest.csv'}", f"--out={folder / 'pairs'}"]
        assert preprocess.main([*flags, "--peaks=10"]) == 0
        settings = tiny_config(folder / "pairs", **changes)
        if plain:
            settings["discriminator"] = {"name": "none"}
            settings["model"]["norm"] = "none"
        config.write_text(json.dumps(settings))

    if run(make, folder / "prepare.log"):
        raise RuntimeError((folder / "prepare.log").read_text())
    return config


def tiny_config(data: pathlib.Path, **changes: int) -> dict:
    """Dropout, batch statistics, a discriminator and an average: all that a state can hold."""
    network = {"name": "unet_ronneberger", "depth": 1, "features": 2, "upsample": "resize"}
    train = {"steps": 12, "batch_size": 2, "steps_per_call": 2, "eval_every": 4}
    train |= {"checkpoint_every": 2, "image_every": 12, **changes}
    return {
        "name": "tiny",
        "ema": 0.9,
        "data": {"dir": str(data), "augment": "dihedral", "crop_px": 16},
        "model": network,
        "discriminator": {"features": 2, "n_layers": 1},
        "optimizer": {"learning_rate": 3e-3},
        "train": train,
    }


def weights(workdir: pathlib.Path) -> tuple[int, str]:
    """Step and digest of the newest whole checkpoint; must be called in a child."""
    from msi2he_jax.training import checkpoint

    saved, _ = checkpoint.read_newest(workdir / "checkpoints" / "latest")
    return (saved.step, checkpoint.digest(saved.arrays)) if saved else (0, "")
