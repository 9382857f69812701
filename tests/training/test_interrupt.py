"""A closed terminal, as when ssh is lost: asked to stop, twice, and nowhere left to write to."""

import fcntl
import os
import signal
import subprocess
import sys
import termios

import pytest

pytestmark = pytest.mark.usefixtures("heeding_hangup")
LOOP = """
import pathlib, sys, time
from msi2he_jax.training.interrupt import stop_requests
with stop_requests() as stop:
    print("ready", flush=True)
    while not stop():
        time.sleep(0.01)
    time.sleep(0.2)  # as long as a step: the second signal comes
    print("stopped", flush=True)
    print("stopped", file=sys.stderr, flush=True)
    pathlib.Path(sys.argv[1]).write_text(str(stop()))
"""
VERB = """
import pathlib, sys, time
from msi2he_jax import cli
def run(values, args):
    try:
        print("ready", flush=True)
        time.sleep(30)
    finally:
        time.sleep(0.2)
        pathlib.Path(args[0]).write_text("cleared")
sys.exit(cli.verb(run, cli.new_flags(), "")())
"""


def _start(code, *words, terminal=None, **options):
    """A process at its own terminal, as a shell would start it."""
    if terminal is not None:
        options = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
        options |= {"start_new_session": True}
        options["preexec_fn"] = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    return subprocess.Popen([sys.executable, "-c", code, *words], **options)


@pytest.mark.parametrize(("code", "left", "exit_code"), [(LOOP, "1", 0), (VERB, "cleared", 129)])
def test_a_terminal_that_is_closed(tmp_path, code, left, exit_code):
    mine, its = os.openpty()
    with _start(code, str(tmp_path / "left"), terminal=its) as process:
        os.close(its)
        assert os.read(mine, 100).startswith(b"ready")
        os.close(mine)
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == exit_code
    assert (tmp_path / "left").read_text() == left


def test_nohup_is_respected(tmp_path):
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with _start(ignoring + LOOP, str(tmp_path / "left"), stdout=-1, stderr=-1) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert (tmp_path / "left").read_text() == str(int(signal.SIGTERM))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(tmp_path, number):
    code = LOOP.replace("time.sleep(0.2)", "print('asked', flush=True); time.sleep(30)")
    with _start(code, str(tmp_path / "left"), stdout=-1, stderr=-1) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == b"asked\n"
        process.send_signal(number)
        assert process.wait(20) == -number
