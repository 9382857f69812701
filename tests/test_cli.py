"""A user's mistake is one line on stderr and exit code 2; a fault of the program is not hidden."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from absl import flags

from msi2he_jax import cli, io_safety
from msi2he_jax.errors import InputError


@pytest.fixture
def main():
    values = cli.new_flags()
    flags.DEFINE_integer("sections", 24, "How many sections.", flag_values=values)
    flags.DEFINE_enum("spectra", "profile", ["profile", "centroid"], "Kind.", flag_values=values)
    flags.DEFINE_boolean("dry-run", False, "Write nothing.", flag_values=values)
    flags.DEFINE_string("out", None, "Folder.", flag_values=values)

    def run(values, args):
        cli.no_positional(args)
        cli.require(values, "out")
        cli.require_range(values, "sections", 1, 99)
        if values.out == "interrupt":
            raise KeyboardInterrupt
        if values.out == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        if values.out == "hang up":
            with cli.keeping(lambda: "3 are kept"):
                os.kill(os.getpid(), signal.SIGHUP)
        if values.out == "full":
            raise OSError(28, "No space left on device")
        if values.out == "memory":
            raise MemoryError("Unable to allocate 8 EiB")
        if values.out == "absent":
            raise FileNotFoundError(2, "No such file or directory", "a.txt")
        if values.out == "socket":
            raise OSError(111, "Connection refused")
        if values.out == "pipe":
            raise BrokenPipeError
        if values.out == "limits":
            print(io_safety.LIMITS.xml_depth)
        if values.out == "fault":
            raise KeyError("a fault")
        if values.out == "attribute":
            raise AttributeError("a fault")
        print(values.sections, values.spectra)

    return cli.verb(run, values, "A verb.")


def test_flags_do_not_leak_into_the_next_call(main, capsys):
    assert main(["--out=x", "--sections=3", "--spectra=centroid"]) == 0
    assert main(["--out=x"]) == 0
    assert capsys.readouterr().out == "3 centroid\n24 profile\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--out=x", "--section=3"], "--section: unknown flag (did you mean --sections?)"),
        (["--out=x", "--sections=0"], "--sections: is 0, must be between 1 and 99"),
        (["--out=x", "--sections=ten"], "flag --sections=ten: invalid literal for int()"),
        (["--out=x", "--spectra=raw"], "value should be one of <profile|centroid>"),
        (["--sections=3"], "--out: is required (--help explains it)"),
        (["--out=x", "word"], "word: is not a flag (write --name=value)"),
    ],
)
def test_mistakes(main, capsys, argv, message):
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_interrupt(main, capsys):
    assert main(["--out=interrupt"]) == 130
    assert capsys.readouterr().err == "error: stopped by Ctrl-C\n"


@pytest.mark.parametrize(("out", "error"), [("fault", KeyError), ("attribute", AttributeError)])
def test_faults_of_the_program_are_shown(main, out, error):
    with pytest.raises(error):
        main([f"--out={out}"])


def test_an_error_asks_for_the_flag_that_stands_for_a_column(tmp_path):
    hint = "fill the manifest's column histology_um_per_px, in um"
    with (
        pytest.raises(InputError) as caught,
        cli.asking_for("--input_um_per_px", "histology_um_per_px"),
    ):
        raise InputError("a.png", "histology_um_per_px", "is not said", hint)
    assert (
        str(caught.value) == "a.png: --input_um_per_px: is not said (pass --input_um_per_px, in um)"
    )
    with (
        pytest.raises(InputError, match="resample it"),
        cli.asking_for("--input_um_per_px", "histology_um_per_px"),
    ):
        raise InputError("a.png", "histology_um_per_px", "is oblong", "resample it")


def test_what_was_written_is_a_line_per_kind(tmp_path, capsys):
    names = ["p1", "p10", "p1_b"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "transform.json").touch()
        (tmp_path / f"{name}_SYNTHETIC.png").touch()
    for name in ("p100.txt", ".hidden", "summary.json"):
        (tmp_path / name).touch()
    cli.print_written(tmp_path, names=names)
    kinds = ["3 SAMPLE/transform.json", "3 SAMPLE_SYNTHETIC.png", "1 p100.txt", "1 summary.json"]
    lines = [str(tmp_path), *(f"     {kind}" for kind in kinds)]
    assert capsys.readouterr().out.splitlines() == lines
    cli.print_written(tmp_path, [tmp_path / "p10_SYNTHETIC.png"])
    assert capsys.readouterr().out.splitlines()[1:] == ["     1 p10_SYNTHETIC.png"]


def test_debug_shows_the_traceback(main):
    with pytest.raises(InputError):
        main(["--out=x", "--sections=0", "--debug"])


def test_help_lists_flags_with_defaults(main, capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "A verb." in printed
    assert "--sections=SECTIONS\n      How many sections. [default: 24]" in printed
    assert "--spectra=profile|centroid\n      Kind. [default: profile]" in printed
    assert "--dry-run\n      Write nothing." in printed


@pytest.mark.parametrize("flag", ["--dry-run", "--dry_run", "--nodry-run", "--dry_run=false"])
def test_dashes_and_underscores_are_alike(main, capsys, flag):
    assert main(["--out=x_-", flag]) == 0
    assert capsys.readouterr().out.endswith("profile\n")


@pytest.mark.usefixtures("heeding_hangup")
@pytest.mark.parametrize(
    ("out", "code", "line"),
    [
        ("terminate", 75, "stopped by SIGTERM\n"),
        ("hang up", 129, "stopped by SIGHUP; 3 are kept\n"),
        ("full", 2, "the output cannot be written: No space left on device (make room, run again)"),
        ("memory", 2, "there is not enough memory for this (Unable to allocate 8 EiB)"),
        ("absent", 2, "a.txt: No such file or directory"),
    ],
)
def test_what_the_computer_says_is_one_line(main, capsys, out, code, line):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert main([f"--out={out}"]) == code
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {line}") and printed.count("\n") == 1
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]


def test_an_unknown_fault_of_the_system_is_shown(main):
    with pytest.raises(OSError, match="Connection refused"):
        main(["--out=socket"])


def test_limits_are_flags(main, capsys):
    assert main(["--out=limits", "--limits.xml_depth=3"]) == 0
    assert capsys.readouterr().out.startswith("3\n")
    assert main(["--out=limits"]) == 0
    assert capsys.readouterr().out.startswith("100\n")
    assert main(["--out=x", "--limits.xml_depth=0"]) == 2
    assert main(["--out=x", "--limits.xml_dept=9"]) == 2
    assert "did you mean --limits.xml_depth?" in capsys.readouterr().err


def test_a_verb_may_run_in_a_thread(main):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["--out=x"])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_a_reader_who_has_seen_enough_is_no_error():
    code = "import sys; from msi2he_jax import simulate; sys.exit(simulate.main(['--help']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "error",
    [
        OSError(12, "Cannot allocate memory"),
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 1 byte"),
    ],
)
def test_too_little_memory_is_one_line(error):
    said = cli.user_message(error, cli.new_flags())
    assert said.startswith("there is not enough memory for this") and "\n" not in said


def test_a_reader_that_has_seen_enough_of_the_overview_ends_it_quietly():
    """`msi2he --help | head -0`: a closed pipe is no fault."""
    read, write = os.pipe()
    os.close(read)
    run = [sys.executable, "-m", "msi2he_jax", "--help"]
    done = subprocess.run(run, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
