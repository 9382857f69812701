"""One process at a time: the second is refused in one line, and a killed one is in nobody's way."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from msi2he_jax import io_safety, locking
from msi2he_jax.errors import InputError

HOLDER = (
    "import sys; from msi2he_jax import locking\n"
    "with locking.held(sys.argv[1], 'build'): print('here', flush=True); input()"
)


@pytest.fixture
def other(tmp_path):
    """Another process that holds `tmp_path / "q"`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "q")]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout.readline() == "here\n"
        yield process
        process.kill()


def refused(target, words, **options):
    with pytest.raises(InputError, match=words) as caught, locking.held(target, "build", **options):
        pass
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


def forged(path, **changes):
    """A lock of this process, but for what is changed."""
    holder = {"verb": "build", **locking._here(), **locking._process()} | changes
    path.write_text(json.dumps(holder))
    return path


def test_the_second_is_refused_even_while_the_first_is_stopped(tmp_path, other):
    os.kill(other.pid, signal.SIGSTOP)
    said = refused(tmp_path / "q", f"q: another build is at work there, process {other.pid} on ")
    assert said.endswith("(wait for it, or name another place)")
    with locking.held(tmp_path / "q.v2", "build"):
        pass
    os.kill(other.pid, signal.SIGCONT)
    other.communicate("done\n")
    assert not list(tmp_path.iterdir())


def test_a_killed_one_is_taken_over_before_and_after_its_parent_has_looked(tmp_path, other):
    other.kill()
    while locking._start_of(other.pid):
        time.sleep(0.01)
    with locking.held(tmp_path / "q", "build"):  # A zombie still.
        holder = json.loads((tmp_path / ".q.lock").read_text())
        assert holder["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changes", [{"start": "1"}, {"boot": "earlier"}])
def test_a_number_given_anew_is_another_process(tmp_path, changes):
    forged(tmp_path / ".q.lock", **changes)
    with locking.held(tmp_path / "q", "build"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "elsewhere", "boot": "other", "pid": 1},
        {"machine": "other", "boot": "other", "start": "1"},
        {"container": "pid:[1]", "start": "1"},
    ],
)
def test_what_cannot_be_seen_from_here_is_named_and_stays(tmp_path, changes):
    lock = tmp_path / ".q.lock"
    forged(lock, **changes)
    words = f"at work there, process .* if nothing is at work there any more, delete {lock}"
    refused(tmp_path / "q", words)
    assert lock.exists()


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", "\xff", "[" * 100_000])
def test_a_damaged_lock_is_not_removed(tmp_path, content):
    (tmp_path / ".q.lock").write_bytes(content.encode("latin-1"))
    refused(tmp_path / "q", "is locked by another process .*delete .*q.lock")


def test_of_many_that_see_a_stale_lock_one_is_at_work_at_a_time(tmp_path):
    """The clearing of one must never remove the lock that another has just taken."""
    inside, most, done = [], [], []
    stale = forged(tmp_path / "stale", start="1")

    def work():
        while len(done) < 40:
            if not done or len(done) % 5 == 0:
                with contextlib.suppress(FileExistsError):  # Never over the lock of one at work.
                    os.link(stale, tmp_path / ".q.lock")
            try:
                with locking.held(tmp_path / "q", "build"):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
                    done.append(1)
            except InputError:
                pass

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert not list(tmp_path.glob(".q.lock.*"))


def test_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with locking.held(tmp_path / "q", "build"):
        refused(tmp_path / "q", "another build is at work there")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_lock_that_cannot_be_written_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, number
):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", fail)
    refused(tmp_path / "a" / "q", f"q: cannot be written: {os.strerror(number)}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["file/q", "x" * 300, f"{'x' * 300}/q"])
def test_a_place_that_cannot_be(tmp_path, target):
    (tmp_path / "file").touch()
    refused(tmp_path / target, "cannot be written: (File exists|File name too long)")


def test_folders_made_for_the_lock_go_unless_used(tmp_path):
    with pytest.raises(KeyError), locking.held(tmp_path / "a" / "run", "train", inside=True):
        assert (tmp_path / "a" / "run" / ".train.lock").is_file()
        raise KeyError
    assert not list(tmp_path.iterdir())
    with locking.held(tmp_path / "a" / "run", "train", inside=True):
        (tmp_path / "a" / "run" / "kept").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "run", "kept"]


def test_a_lock_that_was_deleted_and_taken_by_another_is_left_alone(tmp_path):
    lock = tmp_path / ".q.lock"
    with locking.held(tmp_path / "q", "build"):
        forged(lock, host="elsewhere")
    assert json.loads(lock.read_text())["host"] == "elsewhere"


def test_what_a_killed_one_left_goes_and_a_neighbour_s_stays(tmp_path):
    """`q` and `q.v2` side by side: a pattern `.q.*` would fit the neighbour's staging too."""
    with io_safety.atomic_folder(tmp_path / "q.v2") as neighbour, locking.held(tmp_path / "q", "b"):
        (neighbour / "build").mkdir()
        mine = [tmp_path / ".q.tmp-abcdefgh", tmp_path / ".q.tmp-1234567_"]
        for path in mine:
            path.mkdir()
        io_safety.remove_staging(tmp_path / "q")
        assert not any(path.exists() for path in mine)
        assert (neighbour / "build").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.v2"]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_kill_between_the_two_renames_loses_nothing(tmp_path, replaced):
    (tmp_path / ".q.tmp-abcdefgh.old").mkdir()
    (tmp_path / ".q.tmp-abcdefgh.old" / "before").touch()
    (tmp_path / "q").mkdir() if replaced else (tmp_path / ".q.tmp-abcdefgh").mkdir()
    with locking.held(tmp_path / "q", "build"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["q"]
    assert (tmp_path / "q" / "before").exists() != replaced


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "before").touch()
    real, calls = os.replace, []

    def second_fails(*names):
        calls.append(names)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(*names)

    monkeypatch.setattr(os, "replace", second_fails)
    writing = io_safety.atomic_folder(tmp_path / "q", overwrite=True)
    with pytest.raises(InputError, match="Input/output error"), writing:
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["q", "before"]
