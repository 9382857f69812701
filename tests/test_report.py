"""The verb on a hand-made run: one page, whatever is missing; and the page in a real browser."""

import json
import re
import shutil
import subprocess

import pytest

from msi2he_jax import locking, report


@pytest.fixture
def run_dir(tmp_path):
    """A run's folder that only holds a configuration and a few lines of metrics."""
    run = tmp_path / "run"
    run.mkdir()
    config = {"name": "tiny <b>", "data": {"dir": str(tmp_path / "moved")}}
    (run / "config.json").write_text(json.dumps(config))
    lines = [{"step": step, "split": "train", "reconstruction": 1 / step} for step in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return run


def test_the_page_says_what_is_missing(run_dir, capsys):
    assert report.main([f"--run={run_dir}"]) == 0
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == str(run_dir / "report.html")
    for words in ("has not been scored", "They could not be made", "No registration was given"):
        assert words in page
    assert "tiny &lt;b&gt;" in page and "<b>" not in page


def test_the_same_run_gives_the_same_page(run_dir):
    pages = []
    for _ in range(2):
        assert report.main([f"--run={run_dir}", "--samples=0"]) == 0
        pages.append((run_dir / "report.html").read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--run=absent"], "absent"),
        (["--out=FOLDER"], "is a folder"),
        (["--compare=absent"], "absent"),
        (["--registration=FOLDER"], "summary.json"),
        (["--data=absent"], "absent"),
        (["--samples=-1"], "--samples"),
    ],
)
def test_wrong_flags_are_one_line_and_leave_nothing(run_dir, tmp_path, capsys, flags, words):
    folder = tmp_path / "folder"
    folder.mkdir()
    flags = [flag.replace("FOLDER", str(folder)) for flag in flags]
    assert report.main([f"--run={run_dir}", f"--out={tmp_path / 'x.html'}", *flags]) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "x.html").exists() and not list(folder.iterdir())


def test_samples_are_chosen_from_best_to_worst():
    names = [f"s{i}" for i in range(9)]
    scores = {name: {"ssim_masked": i / 10} for i, name in enumerate(names)}
    assert report.choose(names, scores, 3) == [8, 4, 0]
    assert report.choose(names, scores, 1) == [8]
    assert report.choose(names, scores, 50) == list(range(8, -1, -1))
    assert report.choose(names, {}, 3) == [0, 1, 2]


def test_a_browser_loads_the_page_and_nothing_else(run_dir, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on this machine: the page was not opened in a browser")
    assert report.main([f"--run={run_dir}", "--samples=0"]) == 0
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", "--enable-logging=stderr"]
    page = (run_dir / "report.html").as_uri()
    shown = subprocess.run([browser, *flags, page], capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0
    assert "Run tiny &lt;b&gt;" in shown.stdout and "</footer>" in shown.stdout
    assert not re.search(r"CONSOLE.*(Refused|violates|ERR_)", shown.stderr)


def test_a_second_one_is_refused(run_dir, capsys):
    with locking.held(run_dir / "report.html", "report"):
        assert report.main([f"--run={run_dir}"]) == 2
    assert "another report is at work there" in capsys.readouterr().err
    assert not (run_dir / "report.html").exists()
