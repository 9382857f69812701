import html.parser
import json

import numpy as np
import pytest
from PIL import Image

from msi2he_jax.errors import InputError
from msi2he_jax.reporting import figures
from msi2he_jax.reporting.page import report_page
from msi2he_jax.reporting.panels import Panel
from msi2he_jax.reporting.records import read_registration, read_run, score

VOID = {"meta", "img", "source"}


class Outline(html.parser.HTMLParser):
    """Checks that tags close in order; collects tags, headings and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def quick(monkeypatch):
    """Leaves the plots empty: where the words are looked at, drawing them is most of the time."""
    png = figures.raster(np.zeros((1, 1, 3), np.uint8))
    for name in ("learning_curves", "peak_sticks", "intervals", "errors_by_sample"):
        monkeypatch.setattr(figures, name, lambda *_, **__: png)


def _panel(name="s1"):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    return Panel(
        sample_id=name,
        group_id="g",
        view=pixels,
        fakes={"pix2pix": pixels, "unet": pixels},
        real=pixels[::-1],
        valid_mask=np.ones((20, 30), bool),
        um_per_px=25.0,
        scores={"ssim_masked": 0.5},
    )


def _registration(folder):
    (folder / "s1").mkdir(parents=True)
    Image.new("RGB", (50, 40)).save(folder / "s1" / "overlay_checkerboard.png")
    samples = [
        {"sample_id": "s1", "tre_median_um": 30.0, "tre_median_msi_px": 0.6, "success": True},
        {"sample_id": "../s2", "tre_median_um": None, "success": False},
    ]
    for sample, verdict in zip(samples, ("reliable", "doubtful")):
        sample["verdict"] = verdict
    samples[0]["caution"] = "worse than the control points: median TRE 30.0 instead of 9.0 um"
    summary = {"samples": samples, "moving": "synthetic", "cautions": ["s1: worse than the co..."]}
    (folder / "summary.json").write_text(json.dumps(summary))
    return read_registration(folder)


@pytest.fixture(scope="module")
def full(make_run, made, tmp_path_factory):
    """A page with everything on it, and one other run."""
    place = tmp_path_factory.mktemp("report")
    run = read_run(make_run(place / "run", name=made["evil"]))
    other = read_run(make_run(place / "unet", name="unet"))
    panels = [_panel(made["evil"]), _panel("s2")]
    registration = _registration(place / "registration")
    return report_page(run, others=[other], registration=registration, panels=panels)


def test_the_page_is_one_well_formed_accessible_file(full):
    outline = Outline(full)
    tags = [tag for tag, _ in outline.tags]
    assert tags.count("h1") == 1 and tags.count("main") == 1
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert images and all(a["alt"] and a["src"].startswith("data:image/png") for a in images)
    assert tags.count("caption") == tags.count("table") >= 5
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    links = [a["href"] for tag, a in outline.tags if tag == "a"]
    assert len(ids) == len(set(ids))
    assert links and all(link.removeprefix("#") in ids for link in links)
    assert ("html", {"lang": "en"}) in outline.tags


def test_the_page_loads_and_runs_nothing(full):
    outline = Outline(full)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in outline.tags}
    assert "default-src 'none'" in full
    assert "http://" not in full and "https://" not in full
    assert not any(name.startswith("on") for _, a in outline.tags for name in a)
    assert len(full) < 8e6


def test_names_from_data_are_escaped(full, made):
    assert "<script" not in full
    assert made["evil"] in Outline(full).text


def test_the_banner_says_what_the_data_were(full, quick, make_run, made, tmp_path):
    assert "SIMULATED" in full and "cannot be compared with the paper" in full
    parts = {"provenance": made["provenance"](simulated=False)}
    measured = report_page(read_run(make_run(tmp_path / "b", **parts)))
    assert "SIMULATED" not in measured and "not simulated" in measured
    parts["results"] = made["results"]() | {"comparable_with_paper": True, "words": "the paper's"}
    paper = report_page(read_run(make_run(tmp_path / "c", **parts)))
    assert "cannot be compared" not in paper and "not comparable" not in paper


def test_the_papers_numbers_stand_in_columns_of_their_own(full):
    text = Outline(full).text
    assert "MI (paper, not comparable)" in text and "1.349" in text
    row = next(row for row in full.split("<tr>") if "U-Net</th>" in row)
    assert row.count("<td>–</td>") == 2 and "0.429" in row


@pytest.mark.parametrize(
    ("masked", "words"),
    [
        (0.7, "0.700 is above the best baseline (flat silhouette, 0.600)."),
        (0.61, "0.610 is above the best baseline (flat silhouette, 0.600); the interval"),
        (0.5, "0.500 is not above the best baseline (flat silhouette, 0.600)."),
    ],
)
def test_models_are_held_against_the_best_baseline(make_run, made, tmp_path, quick, masked, words):
    run = make_run(tmp_path / "run", results=made["results"](masked=masked))
    text = Outline(report_page(read_run(run))).text
    assert words in text and "With 2 groups the intervals are too narrow" in text


def test_one_group_gives_no_interval(make_run, made, tmp_path, quick):
    results = made["results"]()
    for block in ("paper", "tissue"):
        for value in results["test"][block].values():
            value["low"] = value["high"] = value["mean"]
    run = make_run(tmp_path / "run", results=results)
    text = Outline(report_page(read_run(run))).text
    assert "one group gives no interval" in text and "95 %: 0.5" not in text


def test_the_share_of_background_is_said_even_without_evaluates_words(
    quick, make_run, made, tmp_path
):
    results = made["results"]()
    del results["test"]["words"]
    page = report_page(read_run(make_run(tmp_path / "run", results=results)))
    assert "without any tissue scores SSIM 0.700" in page


def test_panels_mark_what_is_synthetic(full):
    assert full.count('<span class="mark">SYNTHETIC</span>') == 4
    assert full.count('alt="Absolute difference') == 2


def test_registration_is_listed_with_its_failures(full):
    text = Outline(full).text
    assert "success (as register defines it): 1 of 2" in text
    assert "Do not use as it is" in text and "s1: worse than the co..." in text
    assert "success, reliable, caution" in text and "failure, doubtful" in text
    assert "by their own images: 1 reliable, 1 doubtful" in text
    assert full.count('alt="Checkerboard of') == 1


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        ("results", "has not been scored"),
        ("metrics", "no metrics.jsonl"),
        ("provenance", "no provenance.json"),
    ],
)
def test_what_is_missing_is_said(quick, make_run, tmp_path, left_out, words):
    run = read_run(make_run(tmp_path / "run", **{left_out: None}))
    text = Outline(report_page(run)).text
    assert words in text
    assert "No registration was given" in text and "no pictures of test samples" in text


def test_odd_contents_make_a_page_all_the_same(quick, make_run, tmp_path):
    none = {name: [] for name in ("mz", "lower", "upper", "height")}
    parts = {
        "config": {"name": None, "train": {}},
        "provenance": {"peaks": none, "counts": {"train": 1, "validation": 0, "test": 0}},
        "results": {"test": {"paper": {"ssim": {"mean": None}}, "null": {"empty_slide": {}}}},
        "metrics": [{"step": 3, "split": "train"}],
    }
    Outline(report_page(read_run(make_run(tmp_path / "run", **parts))))


def _planted(document, place, value):
    """Puts a value at a place such as `test.null.empty_slide`."""
    *path, last = [int(name) if name.isdecimal() else name for name in place.split(".")]
    for name in path:
        document = document[name]
    document[last] = value


@pytest.mark.parametrize(
    ("file", "place", "value", "said"),
    [
        ("results", "model", 7, "model: is 7, expected a text"),
        ("results", "test.null.empty_slide", [], "test.null.empty_slide: is a list"),
        ("results", "test.paper.ssim.mean", "x", 'test.paper.ssim.mean: is "x"'),
        (
            "results",
            "test.per_sample.0.ssim_masked",
            {},
            r"test.per_sample\[0\].ssim_masked: is an obj",
        ),
        ("results", "paper_row", ["x"], "paper_row: is a list"),
        ("results", "checkpoint.step", 0.5, "checkpoint.step: is 0.5"),
        ("provenance", "samples.0.um_per_px", "x", r"samples\[0\].um_per_px"),
        ("provenance", "peaks.mz.0", 0, r"peaks.mz\[0\]: is 0, expected a number above 0"),
        ("config", "train.batch_size", "4", "train.batch_size"),
    ],
)
def test_a_value_of_another_kind_is_named(make_run, made, tmp_path, file, place, value, said):
    run = make_run(tmp_path / "run")
    path = run / f"{file}.json"
    document = json.loads(path.read_text())
    _planted(document, place, value)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"{file}.json: {said}"):
        read_run(run)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("samples", {"s1": {}}, "samples: is an object, expected a list"),
        ("samples.0.sample_id", None, r"samples\[0\].sample_id: is null"),
        ("samples.0.tre_median_um", "30", r"samples\[0\].tre_median_um"),
        ("warnings", "x", 'warnings: is "x", expected a list'),
        ("moving", True, "moving: is true, expected a text"),
    ],
)
def test_a_registration_of_another_kind_is_named(tmp_path, place, value, said):
    path = _registration(tmp_path / "r").path / "summary.json"
    document = json.loads(path.read_text())
    _planted(document, place, value)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"summary.json: {said}"):
        read_registration(path.parent)


@pytest.mark.parametrize("name", ["..", "../r/s1", "s1/../s1", "", "s1\0", "x" * 300])
def test_names_lead_nowhere_but_to_folders_that_are_there(tmp_path, name):
    registration = _registration(tmp_path / "r")
    assert registration.overlay("s1") is not None and registration.overlay(name) is None


def test_scores_are_found_in_nested_and_flat_blocks():
    value = {"mean": 1.0, "low": 0.5, "high": None}
    expected = {"mean": 1.0, "low": None, "high": None}  # half an interval is none
    assert score({"paper": {"ssim": value}}, "ssim") == expected
    assert score({"ssim": value}, "ssim") == expected
    assert score({"ssim": value | {"high": 1.5}}, "ssim") == value | {"high": 1.5}
    assert score({"ssim": {"mean": None}}, "ssim") is None
    assert score(None, "ssim") is None


def test_lines_of_metrics_count_by_whole_steps(make_run, tmp_path):
    lines = [{"step": step, "split": "train", "x": 1} for step in (3, 0.5, 10**299, "4", None)]
    run = read_run(make_run(tmp_path / "run", metrics=lines))
    assert [line["step"] for line in run.metrics] == [3] and run.curve("train", "x") == ([3], [1.0])


def test_folders_that_are_no_run_are_refused(tmp_path, make_run):
    with pytest.raises(InputError, match="not the folder of a run"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_run(tmp_path / "absent")
    with pytest.raises(InputError, match=r"summary\.json"):
        read_registration(tmp_path)
    folder = make_run(tmp_path / "run", results=[1])
    with pytest.raises(InputError, match=r"results\.json: is a list, expected an object"):
        read_run(folder)


def test_warnings_of_any_version_of_the_file_are_shown(quick, make_run, tmp_path):
    run = make_run(tmp_path / "run")
    path = run / "provenance.json"
    record = json.loads(path.read_text())
    record |= {"warnings": ["of the cohort"], "doubts": ["of an old cohort"]}
    said = [{"warnings": ["new", "new"]}, {"doubts": ["older"]}, {"doubt": "oldest"}]
    known = record["samples"][1]
    record["samples"] = [known | {"sample_id": f"s{i}", **each} for i, each in enumerate(said)]
    path.write_text(json.dumps(record))
    text = Outline(report_page(read_run(run))).text
    for words in ("of the cohort", "of an old cohort", "s0: new", "s1: older", "s2: oldest"):
        assert text.count(words) == 1
    assert "Warnings" in text


def _compared(make_run, place, digests, rows):
    """The text of a page on runs scored on data of these digests, in these rows of the paper."""
    runs = []
    for number, (digest, row) in enumerate(zip(digests, rows, strict=True)):
        folder = make_run(place / f"run{number}", name=f"run{number}")
        found = json.loads((folder / "results.json").read_text())
        found |= {"padding": "black" if digest == "b" else "white", "paper_row": row}
        found["test"]["data_sha256"] = digest
        found["test"]["null"]["empty_slide"]["ssim"]["mean"] = 0.415 if digest == "b" else 0.575
        (folder / "results.json").write_text(json.dumps(found))
        runs.append(read_run(folder))
    return Outline(report_page(runs[0], others=runs[1:])).text


def test_runs_scored_on_other_data_are_marked(quick, make_run, tmp_path):
    rows = ["pix2pix, white padding", "pix2pix, black padding", None]
    text = _compared(make_run, tmp_path, "wbw", rows)
    assert "Scored on other data than pix2pix (run0): pix2pix (run1)." in text
    assert "pix2pix (run1), black padding *" in text
    assert "pix2pix (run2), white padding" in text and "(run2), white padding *" not in text
    # Each data set's empty slide once; the paper's numbers beside the run of that row alone.
    assert "empty slide * (data of run1)" in text and "empty slide * (data of run2)" not in text
    assert text.count("0.415") == text.count("0.575") > 0
    assert "(run0), white padding: the paper's pix2pix, white padding" in text
    assert "(run1), black padding *: the paper's pix2pix, black padding" in text
    assert text.count("paper's U-Net") == 1 and text.count("1.353") == text.count("1.349") == 1


def test_runs_scored_on_the_same_data_are_not_marked(quick, make_run, tmp_path):
    text = _compared(make_run, tmp_path, "ww", [None, None])
    assert "other data than" not in text and "data of run1" not in text
    assert text.count("paper's pix2pix") == 2


def test_one_group_has_no_bounds(quick, make_run, tmp_path):
    folder = make_run(tmp_path / "run", name="run")
    found = json.loads((folder / "results.json").read_text())
    found["test"]["tissue"]["ssim_masked"] = {"mean": 0.169, "low": None, "high": None}
    (folder / "results.json").write_text(json.dumps(found))
    text = Outline(report_page(read_run(folder))).text
    assert "0.169" in text and "0.169 to" not in text
    assert "one group gives no interval, so this may be chance" in text
