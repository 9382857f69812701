"""The paper's path on tiny sizes: its preset, its three rows, one comparison of them."""

import html
import json
import pathlib

import pytest

from msi2he_jax import evaluate, preprocess, report, simulate, train

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
ROWS = {
    "unet": ("unet.py", "white", "U-Net"),
    "white": ("pix2pix.py", "white", "pix2pix, white padding"),
    "black": ("pix2pix.py", "black", "pix2pix, black padding"),
}
SMALL = [
    "--config.model.features=2",
    "--config.model.depth=5",
    "--config.discriminator.features=4",
    "--config.discriminator.n_layers=1",
    "--config.train.steps=2",
    "--config.train.steps_per_call=2",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A cohort of three patients, its two data sets, and a run for each of the paper's rows."""
    place = tmp_path_factory.mktemp("paper")
    cohort = ["--sections=3", "--sections-per-patient=1", "--grid=12", "--spectra=centroid"]
    assert simulate.main([f"--out={place / 'cohort'}", *cohort, "--histology-um-per-px=12.5"]) == 0
    manifest = f"--manifest={place / 'cohort' / 'manifest.csv'}"
    for color in ("white", "black"):
        how = ["--preset=paper", f"--padding={color}", "--peaks=4"]
        assert preprocess.main([manifest, f"--out={place / color}", *how]) == 0
    for name, (config, color, _) in ROWS.items():
        flags = [f"--config={CONFIGS / config}", f"--workdir={place / 'runs' / name}"]
        data = f"--config.data.dir={place / color}"
        assert train.main([*flags, data, *SMALL]) == 0
    return place


def test_each_run_stands_in_its_own_row_and_in_no_other(place, capsys):
    found = {}
    for name, (_, color, row) in ROWS.items():
        assert evaluate.main([f"--run={place / 'runs' / name}"]) == 0
        printed = capsys.readouterr().out
        results = json.loads((place / "runs" / name / "results.json").read_text())
        assert (results["run"], results["paper_row"], results["padding"]) == (name, row, color)
        assert "model.features 2 (published: 64)" in results["recipe"]
        assert "peaks 4 (published: 50)" in results["recipe"]
        score = results["test"]["paper"]["ssim"]
        assert score["mean"] is not None and score["low"] is score["high"] is None
        others = [other for _, _, other in ROWS.values() if other != row]
        assert all(f"paper's {other}" in printed for other in others)
        assert f"paper's {row}" not in printed and "[0." not in printed
        found[name] = results["test"]
    assert found["unet"]["data_sha256"] == found["white"]["data_sha256"]
    assert found["black"]["data_sha256"] != found["white"]["data_sha256"]
    # The colour of the padding alone moves what an empty slide scores on the whole frame.
    empty = [found[name]["null"]["empty_slide"]["ssim"]["mean"] for name in ("white", "black")]
    assert abs(empty[0] - empty[1]) > 0.01
    runs = [f"{place / 'runs' / name}" for name in ROWS]
    page = place / "page.html"
    compare = [f"--run={runs[0]}", f"--compare={runs[1]},{runs[2]}", "--samples=0"]
    assert report.main([*compare, f"--out={page}"]) == 0
    text = html.unescape(page.read_text())
    for name, (_, color, row) in ROWS.items():
        star = " *" if name == "black" else ""
        kind = "U-Net" if name == "unet" else f"pix2pix ({name})"
        assert f"{kind}, {color} padding{star}: the paper's {row}" in text
        assert text.count(f"paper's {row}") == 1  # and no empty row of the paper's
    assert "Scored on other data than U-Net" in text


def _error(capsys) -> str:
    """The one line that says what is wrong; notes of the set-up may stand before it."""
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("error: ")]
    return line


def test_a_run_of_the_other_padding_is_refused(place, capsys):
    flags = [f"--config={CONFIGS / 'pix2pix.py'}", f"--workdir={place / 'refused'}", *SMALL]
    flags += [f"--config.data.dir={place / 'white'}", "--config.data.padding=black"]
    capsys.readouterr()
    assert train.main(flags) == 2
    line = _error(capsys)
    assert "data.padding: is black, but preprocess padded these data white" in line
    assert not (place / "refused").exists()
    assert evaluate.main([f"--run={place / 'runs' / 'white'}", f"--data={place / 'black'}"]) == 2
    line = _error(capsys)
    assert "is white, but preprocess padded these data black" in line
