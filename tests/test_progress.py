"""Signs of life on stderr, by a clock and a stream that a test holds."""

import contextlib
import io
import sys

import pytest

from msi2he_jax import cli, doctor, progress


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def line(self) -> str:
        """What a reader sees of the last line."""
        shown = ""
        for part in self.getvalue().rpartition("\n")[2].split("\r"):
            shown = part + shown[len(part) :]
        return shown.rstrip()


@pytest.fixture(autouse=True)
def as_shipped(monkeypatch):
    """Says what the other tests do not want to hear."""
    monkeypatch.setattr(progress, "SILENT_S", 2.0)


def _work(stream, times, total=24, **options):
    """Tells of section after section, each finished after `times` seconds."""
    clock = Clock()
    told = progress.Progress(stream, clock)
    for done, seconds in enumerate(times):
        told.tell("section", done, total, **options)
        clock.now += seconds
    told.tell("section", len(times), total, **options)
    return told, clock


def test_quick_work_says_nothing():
    for stream in (io.StringIO(), Terminal()):
        told, _ = _work(stream, [0.1] * 19)
        told.end()
        assert stream.getvalue() == ""


def test_a_log_gets_whole_lines_and_few():
    stream = io.StringIO()
    told, _ = _work(stream, [12.0] * 10)
    told.end()
    assert stream.getvalue().splitlines() == [
        "section 2 of 24, about 5 min left",
        "section 5 of 24, about 4 min left",
        "section 8 of 24, about 3 min left",
        "section 11 of 24, about 3 min left",
    ]


def test_a_terminal_gets_one_line_that_is_emptied_at_the_end():
    stream = Terminal()
    told, _ = _work(stream, [12.0] * 2)
    assert stream.line() == "section 3 of 24, about 4 min left"
    told.tell("pair", 0, 2)
    told.clear()
    assert stream.line() == ""
    told.end()
    assert "\n" not in stream.getvalue() and stream.line() == ""


def test_a_shorter_line_leaves_nothing_of_a_longer_one_and_none_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    told, clock = _work(stream, [5.0], more="a name that is longer than the terminal is wide")
    assert stream.line() == "section 2 of 24, a name that is longer"
    clock.now += 1
    told.tell("tile", 0, 4)
    assert stream.line() == "tile 1 of 4, 1 s so far"
    told.end()


def test_a_long_step_is_shown_while_it_runs():
    """Nothing is told meanwhile; the thread calls `show`."""
    stream, clock = io.StringIO(), Clock()
    told = progress.Progress(stream, clock)
    told.tell("section", 0, 1, "p00")
    for clock.now in range(0, 100):
        told.show()
    assert stream.getvalue().splitlines() == [
        "section 1 of 1, p00, 2 s so far",
        "section 1 of 1, p00, 32 s so far",
        "section 1 of 1, p00, 62 s so far",
        "section 1 of 1, p00, 2 min so far",
    ]
    told.end()


def test_what_an_earlier_run_finished_predicts_nothing():
    stream, clock = io.StringIO(), Clock()
    told = progress.Progress(stream, clock)
    told.tell("section", 0, 30)
    told.tell("section", 10, 30, ready=10)
    clock.now = 60.0
    told.tell("section", 11, 30, ready=10)
    told.end()
    assert stream.getvalue() == "section 12 of 30, about 19 min left\n"


def test_steps_are_counted_from_where_training_goes_on():
    stream, clock = io.StringIO(), Clock()
    told = progress.Progress(stream, clock)
    told.tell("setting up")
    told.tell("step", 5000, 5200, "10 images/s")
    clock.now = 10.0
    told.tell("step", 5100, 5200, "10 images/s")
    told.end()
    assert stream.getvalue() == "step 5101 of 5200, 10 images/s, about 10 s left\n"


def test_a_closed_stream_ends_the_showing():
    stream = io.StringIO()
    told, clock = _work(stream, [1.0])
    stream.close()
    clock.now += 5
    told.tell("section", 2, 24)
    told.end()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "1 s"), (89, "89 s"), (240, "4 min"), (9000, "2.5 h"), (9e5, "10 d")],
)
def test_durations(seconds, words):
    assert progress.duration(seconds) == words


@pytest.fixture
def at_once(monkeypatch):
    """Nothing is too quick to be told, and a log gets every line."""
    monkeypatch.setattr(progress, "SILENT_S", 0.0)
    monkeypatch.setattr(progress, "LINE_S", 0.0)


def test_a_verb_tells_on_stderr_alone(tmp_path, capsys, at_once):
    points = tmp_path / "points.csv"
    rows = [f"{x}{y},fit,{x},{y},{x},{y}" for x in (10, 90) for y in (10, 90)]
    points.write_text(
        "\n".join(["name,use,msi_x_um,msi_y_um,histology_x_um,histology_y_um", *rows])
    )
    assert doctor.main([str(points)]) == 0
    printed = capsys.readouterr()
    assert "file 1 of 1, " in printed.err and "\r" not in printed.err
    assert "file 1" not in printed.out
    assert doctor.main([str(points), "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert "file 1" not in quiet.err and quiet.out == printed.out


def test_warnings_and_errors_have_a_line_of_their_own(monkeypatch, at_once):
    stream, values = Terminal(), cli.new_flags()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "SILENT_S", 0.0)

    def run(values, args):
        progress.tell("section", 0, 24)
        cli.warn(["odd"], "s1")
        progress.tell("pair", 0, 24)
        cli.no_positional(["x"])

    assert cli.verb(run, values, "A verb.")([]) == 2
    seen = [line.rpartition("\r")[2] for line in stream.getvalue().split("\n")]
    assert seen[0] == "warning: s1: odd"
    assert seen[1].startswith("error: x: is not a flag")


def test_nothing_is_told_where_no_verb_runs(capsys, at_once):
    progress.tell("section", 0, 24)
    progress.clear()
    with contextlib.suppress(ValueError), progress.shown():
        raise ValueError
    progress.tell("section", 0, 24)
    assert capsys.readouterr().err == ""
