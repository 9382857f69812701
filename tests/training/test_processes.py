"""Two processes that share a batch give the gradient of one: all together, on this machine."""

import contextlib
import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from msi2he_jax import locking
from msi2he_jax.errors import InputError
from msi2he_jax.training import checkpoint, loop, parallel, processes
from tests.training.test_parallel import PROGRAM

# The same gradients as between devices, but that the devices are four in each of two processes.
JOIN = """
import sys
from msi2he_jax.training import parallel, processes
assert processes.join_processes(sys.argv[1], 2, int(sys.argv[2])) == int(sys.argv[2])
"""
PLACES = {
    "jax.devices()[:1]": "jax.local_devices()[:1]",
    'for mode in ("jit", "pmap"):': 'for mode in ("jit",):',
}


def _program() -> str:
    program = PROGRAM
    for old, new in PLACES.items():
        assert old in program
        program = program.replace(old, new)
    return JOIN + program


def _both(commands, devices: int, code: int = 0, more=({}, {})) -> list[tuple[str, str]]:
    """Runs two programs at a time, each with so many devices; returns what they said."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | flags | {"JAX_PLATFORMS": "cpu"}
    both = [
        subprocess.Popen(command, env=environment | own, **pipes)
        for command, own in zip(commands, more, strict=True)
    ]
    try:
        said = [process.communicate(timeout=100) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [code, code], said
    return said


def _address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_two_processes_give_the_gradient_of_one():
    command = [sys.executable, "-c", _program(), _address()]
    said = _both([[*command, str(index)] for index in (0, 1)], devices=4)
    assert [out.splitlines()[-1] for out, _ in said] == ["jit agrees"] * 2  # gloo talks before


def _train_both(config, run, steps: int, loader: str, *more: str, **how) -> list:
    """Trains in two processes of one device each; `slurm`: as SLURM would start them."""
    keys = [f"--config.train.steps={steps}", f"--config.data.loader={loader}", *more]
    command = [sys.executable, "-m", "msi2he_jax.train", f"--config={config}", f"--workdir={run}"]
    address, slurm = _address(), how.pop("slurm", False)
    words = "auto" if slurm else f"{address},2,"
    commands = [
        [*command, *keys, f"--coordinator={words}{'' if slurm else index}"] for index in (0, 1)
    ]
    return _both(commands, devices=1, more=_slurm() if slurm else ({}, {}), **how)


def _slurm() -> list[dict[str, str]]:
    """What SLURM sets for two tasks on this machine; jax takes the port from the job's number."""
    for job in range(4096):
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", 61440 + job))
            break
    job = {"SLURM_JOB_ID": str(job), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2"}
    job["SLURM_STEP_NUM_NODES"] = "1"
    return [job | {"SLURM_PROCID": i, "SLURM_LOCALID": "0"} for i in "01"]


def _losses(run) -> np.ndarray:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = "adversarial", "discriminator", "reconstruction"
    return np.array([[x[n] for n in names] for x in lines if x["split"] == "train"])


def test_two_processes_train_as_one_and_go_on(stored, tmp_path):
    """The first writes and speaks; stopped and streamed, the run is the one from memory."""
    config = tmp_path / "config.json"
    config.write_text(stored.to_json())
    said = _train_both(config, tmp_path / "whole", 4, "device")
    assert "finished at step 4" in said[0][0] and "finished" not in said[1][0]
    assert "step" not in said[1][1]
    _train_both(config, tmp_path / "parts", 2, "stream")
    said = _train_both(config, tmp_path / "parts", 4, "stream", slurm=True)
    assert "resuming at step 2" in said[0][1]
    kept = [
        checkpoint.read_newest(tmp_path / name / "checkpoints" / "latest")[0]
        for name in ("whole", "parts")
    ]
    assert kept[0].step == 4
    assert checkpoint.digest(kept[0].arrays) == checkpoint.digest(kept[1].arrays)
    said = _train_both(config, tmp_path / "whole", 4, "stream", "--config.seed=7", code=2)
    assert all("seed: is 0 in the run that is there" in stderr for _, stderr in said)
    stored.train.steps = 4
    loop.train_and_evaluate(stored, tmp_path / "one")
    np.testing.assert_allclose(_losses(tmp_path / "whole"), _losses(tmp_path / "one"), rtol=1e-3)


SHARING = """
import sys
from msi2he_jax import cli, train
from msi2he_jax.training import processes
def run(values, args):
    processes.join(args[0])
    with train._ending_alone():
        while True:
            processes.any_signal(None)
            print("together", flush=True)
sys.exit(cli.verb(run, cli.new_flags(), "")())
"""


def test_a_process_that_is_killed_ends_the_first_in_one_line():
    address = _address()
    options = {"env": os.environ | {"JAX_PLATFORMS": "cpu"}, "stderr": -1, "stdout": -1}
    first, second = (
        subprocess.Popen([sys.executable, "-c", SHARING, f"{address},2,{index}"], **options)
        for index in (0, 1)
    )
    with first, second:
        while b"together" not in first.stdout.readline():
            assert first.poll() is None
        second.kill()
        said = first.communicate(timeout=60)[1].decode()
    assert first.returncode == 2, said
    assert said == (
        "error: --coordinator: another process of this run was lost (the same command continues "
        "from the last checkpoint)\n"
    )


def test_what_only_one_process_can_hold_is_refused_in_all(tmp_path, monkeypatch):
    taken = locking.held(tmp_path, "train", inside=True)
    again = processes.entered_by_first(locking.held(tmp_path, "train", inside=True))
    with taken, pytest.raises(InputError, match="another train is at work there"), again:
        pass
    monkeypatch.setattr(processes, "is_first", lambda: False)
    monkeypatch.setattr(processes, "of_first", lambda _: np.int32(1))
    elsewhere = processes.entered_by_first(contextlib.nullcontext())
    with pytest.raises(InputError, match="the first process ended"), elsewhere:
        pass


def test_a_signal_and_a_decision_are_those_of_all():
    """With one process they are its own."""
    assert processes.any_signal(None) is None and processes.any_signal(15) == 15
    np.testing.assert_array_equal(processes.of_first(np.arange(3)), np.arange(3))
    assert processes.is_first()


@pytest.mark.parametrize("words", ["here", "host:1", "host:1,2", "host:1,2,x", "host,2,0"])
def test_a_coordinator_that_is_none(words):
    with pytest.raises(InputError, match="expected auto or HOST:PORT,COUNT,INDEX"):
        processes.join(words)
    with pytest.raises(InputError, match="the last is number 1"):
        processes.join("host:1,2,2")


def test_pmap_is_for_one_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match=r"is pmap, which shares .* not between 2"):
        parallel.choose_devices("pmap", 8)


def test_a_process_that_cannot_join_says_so(monkeypatch):
    def refuse(*_):
        raise ValueError("coordinator_address should be defined.\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(InputError, match="the other processes: coordinator_address should"):
        processes.join_processes()
