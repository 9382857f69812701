"""Trains a network on a preprocessed data set: pix2pix, or a U-Net alone.

    python -m msi2he_jax.train --config=configs/pix2pix.py --workdir=runs/pix2pix
    python -m msi2he_jax.train --config=configs/smoke.py:unet --config.train.steps=500

--config takes the name of a shipped configuration (pix2pix, unet, smoke:unet, ...), a Python file
with get_config(), which is run (`FILE.py:variant` hands `variant` to it), or a JSON file such as a
run's own config.json, which is only read. Every value in it can be
set on the command line: --config.SECTION.KEY=VALUE. Keys with their defaults follow the flags
below. What they mean: msi2he_jax/config/keys.py.

A run that was stopped goes on where it was when the same command is given again: by itself, and
with the result it would have had. Ctrl-C, SIGTERM and SIGHUP (the terminal was closed) finish the
current call and save; a second one stops at once. Exit codes: 0 done, 2 a mistake in the input, 3
losses stopped being finite, 75 stopped by SIGTERM, 129 by SIGHUP, 130 by Ctrl-C.

The run's folder holds config.json, provenance.json (of the data), checkpoints/latest and
checkpoints/best (by validation score), metrics.jsonl, events/ (TensorBoard) and images/ (MSI view,
synthetic, real, and the flow where flow.enabled). A step whose loss or gradient is not finite
changes nothing; metrics.jsonl names its samples. Ten in a row end the run, and not_finite.npz holds
the last batch.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from msi2he_jax import cli, progress
from msi2he_jax.errors import InputError

if TYPE_CHECKING:
    from msi2he_jax.training.loop import Outcome

FLAGS = cli.new_flags()
flags.DEFINE_string(
    "config",
    None,
    "NAME or FILE.py, with :variant where it has some; FILE.json.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "init_from",
    None,
    "Begin from pix2pix' PyTorch weights: latest_net_G.pth, or the folder that holds it and "
    "latest_net_D.pth. Nothing in the file is run.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "deterministic",
    False,
    "Let a GPU take only operations whose result never varies, slower ones at times; a CPU does.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "coordinator",
    None,
    "Share each batch with other processes that are given the same command: auto under SLURM, Open "
    "MPI and on Cloud TPUs, else HOST:PORT,COUNT,INDEX (of the first; how many; this one's number, "
    "from 0). Needs --config.parallel=jit and folders that all of them see.",
    flag_values=FLAGS,
)
flags.DEFINE_string("workdir", None, "Folder of the run; runs/NAME if absent.", flag_values=FLAGS)

_EXIT = {
    signal.SIGTERM: cli.TERMINATED,
    signal.SIGHUP: cli.HUNG_UP,
    signal.SIGINT: cli.INTERRUPTED,
}
_NOT_FINITE = 3
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def override(config, key: str, text: str):
    """Returns `config` with the value of `key` read from `text` in that key's own type.

    Raises:
        InputError: no such key, or not a value of its type.
    """
    from ml_collections import config_flags

    from msi2he_jax import config as configs

    config = config.copy_and_resolve_references()  # config_flags writes into what it is given
    kind = configs.key_type(config, key)
    word, values = f"--config.{key}={text}", flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["", word])
        values(["train", word])
    except (flags.Error, TypeError, ValueError) as error:
        why = f"is {text!r}, expected {configs.describe_type(kind)}"
        raise InputError(f"--config.{key}", "", why) from error
    return values["config"].value


def read_config(source: str, overrides: Sequence[tuple[str, str]]):
    """Returns the checked configuration of `source` with `overrides` applied."""
    from msi2he_jax import config as configs

    config = configs.load_config(source)
    named = {key for key, _ in overrides}
    if "train.steps" in named and "train.epochs" not in named:
        overrides = [("train.epochs", "0"), *overrides]  # who asks for steps gets them
    for key, text in overrides:
        config = override(config, key, text)
    configs.check_config(config, source)
    return config


def run(values: flags.FlagValues, args: list[str], *, overrides: Sequence[tuple[str, str]]) -> int:
    """Reads the configuration, trains, and says how it ended."""
    cli.no_positional(args)
    cli.require(values, "config")
    if values["init_from"].value:
        overrides = [*overrides, ("init_from", values["init_from"].value)]
    config = read_config(values["config"].value, overrides)
    workdir = values["workdir"].value or f"runs/{config.name}"
    if values["deterministic"].value:  # Read when a device is first used, which is later.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DETERMINISTIC}".strip()
    if values["coordinator"].value:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Read when jax is imported, below.
    from msi2he_jax.training import loop, processes
    from msi2he_jax.training.interrupt import stop_requests
    from msi2he_jax.training.parallel import use_compilation_cache

    if values["coordinator"].value:
        processes.join(values["coordinator"].value)
    if processes.is_first():
        _warn(config.data.dir)
    use_compilation_cache()
    with _ending_alone(), stop_requests() as stop:
        told = _Told(config.train.steps)
        report = loop.Report(told.note, told.total, told.progress)
        report = report if processes.is_first() else loop.Report()
        options = {"report": report, "stop": stop, "begin": _beginning(config)}
        outcome = loop.train_and_evaluate(config, workdir, **options)
    if processes.is_first():
        progress.clear()
        print(_summary(outcome, workdir, config))
        _print_written(workdir)
    if outcome.reason == "not finite":
        return _NOT_FINITE
    return _EXIT[outcome.signal] if outcome.reason == "signal" else cli.DONE


def train_model(
    config: Any,
    workdir: str | os.PathLike,
    *,
    changes: Mapping[str, Any] | None = None,
    note: Callable[[str], None] = cli.ignore,
    tell: Callable[[int, dict[str, float]], None] = cli.ignore,
) -> Outcome:
    """Trains a model, or goes on with the run that is in `workdir`.

    Args:
        config: A configuration, or the name or file of one, such as `"pix2pix"`.
        workdir: The run's folder: checkpoints, metrics and config.json.
        changes: Keys to set otherwise, such as `{"data.dir": "pairs", "train.steps": 500}`.
        note: Called with lines such as validation scores.
        tell: Called now and then with the step and its values: losses, `images_per_s`.

    Returns:
        How it ended: step, reason, best validation score.

    Raises:
        InputError: the configuration, the data or the run's folder do not fit together.
    """
    from msi2he_jax import config as configs
    from msi2he_jax.training import loop

    if isinstance(config, str | os.PathLike):
        config = configs.load_config(config)
    config = config.copy_and_resolve_references()
    for name, value in (changes or {}).items():
        kind = configs.key_type(config, name)
        if type(value) is not kind and not (kind is float and type(value) is int):
            why = f"is {value!r}, expected {configs.describe_type(kind)}"
            raise InputError("changes", name, why)
        config.update_from_flattened_dict({name: kind(value)})
    configs.check_config(config, "config")
    report = loop.Report(note=note, progress=tell)
    return loop.train_and_evaluate(config, workdir, report=report, begin=_beginning(config))


def _warn(data: str) -> None:
    """Says what is odd about the data set; where it is none, training says so."""
    from msi2he_jax.data.provenance import read_provenance, warnings_of

    with contextlib.suppress(InputError):
        cli.warn(warnings_of(read_provenance(data)))


@contextlib.contextmanager
def _ending_alone():
    """Of several processes the one that fails ends at once, with its own exit code."""
    from msi2he_jax.training import processes

    try:
        yield
    except Exception as error:
        lost = None if isinstance(error, InputError) else processes.lost_peer(error)
        processes.end_alone(cli.USER_ERROR if lost or isinstance(error, InputError) else 1)
        if lost:
            raise lost from error
        raise


def _beginning(config):
    """Returns what puts `init_from` into a new run's state, or None."""
    if not config.init_from:
        return None
    from msi2he_jax.interop.torch_checkpoint import begin_from

    return functools.partial(begin_from, source=config.init_from)


class _Told:
    """What training tells, on stderr: steps with images/s and the time left, and notes."""

    def __init__(self, steps: int):
        self._steps = steps

    def note(self, line: str) -> None:
        progress.clear()
        print(line, file=sys.stderr)

    def total(self, steps: int) -> None:
        progress.tell("setting up")
        self._steps = steps

    def progress(self, step: int, values: dict[str, float]) -> None:
        progress.tell("step", step, self._steps, f"{values['images_per_s']:.3g} images/s")


def _print_written(workdir: str) -> None:
    """Prints the run's files; checkpoints are one line, whatever they are made of."""
    names = [path for path in Path(workdir).glob("*") if path.name != "checkpoints"]
    if names:
        cli.print_written(workdir, names)
        for step in sorted(Path(workdir, "checkpoints").glob("*/[0-9]*")):
            print(f"  {1:4d} checkpoints/{step.parent.name}/{step.name}/")


def _summary(outcome, workdir: str, config) -> str:
    best = "" if outcome.best is None else f", best {config.train.best_metric} {outcome.best:.4f}"
    spent = f", {outcome.train_s:.1f} s in steps, {outcome.compile_s:.1f} s compiling"
    spent += f", {outcome.outside_share:.1%} of the loop outside of steps"
    return f"{workdir}: {outcome.reason} at step {outcome.step} of {outcome.steps}{best}{spent}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the verb; returns its exit code."""
    from msi2he_jax import config as configs

    words, overrides = configs.split_overrides(sys.argv[1:] if argv is None else argv)
    verb = cli.verb(functools.partial(run, overrides=overrides), FLAGS, __doc__)
    code = verb(words)
    if {"--help", "-h", "-help", "--helpfull"} & set(words):
        print("\n".join(["\nKeys of a configuration:", *configs.describe_keys()]))
    return code


if __name__ == "__main__":
    sys.exit(main())
