"""The report draws what was measured and says what was not; FLOPs follow from the layers."""

import pytest

from benchmarks import harness, page, plots, report, stand_in
from msi2he_jax.config import default_config
from msi2he_jax.models import flops

MACHINE = {
    "device": "card <1>",
    "backend": "gpu",
    "cores": 4,
    "versions": {"jax": "1", "torch": None},
    "gemm_gflops": 100.0,
    "gemm_bfloat16_gflops": 400.0,
    "copy_gb_per_s": 10.0,
    "revision": "abc",
    "date": "2026-01-01",
}


def _row(name, batch, **more):
    facts = {"side_px": 64, "batch": batch, "dtype": "float32", "gflop": 2.0, "mfu": 0.2}
    return facts | {"name": name, "items_per_s": 10.0, "gflop_per_s": 20.0, "ratio": 1.0} | more


def test_page_has_tables_plots_and_what_is_missing():
    rows = [_row("ours", 1, xla_gbyte=0.5), _row("ours", 4, items_per_s=20.0)]
    rows += [_row("jit, 2 devices", 4, devices=2), _row("jit, 1 devices", 4, devices=1)]
    tables = {"a & b": {"unit": "images", "rows": rows}}
    record = {"benchmark": "train", "environment": MACHINE, "tables": tables}
    text = page.page([record | {"missing": {"big": "out of memory"}}])
    assert text.count("<svg") == 4 and "roofline" in text.lower()
    assert "a &amp; b" in text and "card &lt;1&gt;" in text and "big (out of memory)" in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_chart_without_points_is_nothing():
    assert plots.chart("t", "x", "y", {}) == ""
    one = plots.chart("t", "x", "y", {"a": [(1.0, 5.0)]})
    assert one.startswith("<svg") and one.count("<circle") == 1


def test_a_table_that_fails_leaves_the_others():
    def fail():
        raise MemoryError("too large")

    tables, missing = harness.run_tables({"a": dict, "b": fail, "c": dict})
    assert list(tables) == ["a", "c"] and missing == {"b": "MemoryError: too large"}
    kept = []
    harness.run_tables({"a": dict, "b": fail}, keep=lambda *both: kept.append(list(map(len, both))))
    assert kept == [[1, 0], [1, 1]]  # after each table, so that a run cut off has those before
    tables, missing = harness.run_tables({"a": dict}, budget_s=-1.0)
    assert tables == {} and missing["a"].startswith("not begun")


def test_flops_of_the_published_networks():
    """GFLOP of pix2pix at 256 px with 50 channels, counted layer by layer elsewhere."""
    assert flops.unet_forward(256, 50, 64, 8)[0] == pytest.approx(13.67e9, rel=1e-3)
    assert flops.patchgan_forward(256, 50, 64)[0] == pytest.approx(7.97e9, rel=1e-3)
    config = default_config()
    config.model.in_channels = 50
    judge = config.discriminator
    assert flops.training_step(config.model, judge, 256) == pytest.approx(97.88e9, rel=1e-4)
    judge.scales = 2
    assert flops.training_step(config.model, judge, 256) is None


def test_stand_in_has_what_configurations_need():
    first = stand_in.ConfigDict({"a": {"b": 1}, "c": 2})
    second = first.copy_and_resolve_references()
    second.a.b, second.c = 3, 4
    assert (first.a.b, first.c, second["a"]["b"]) == (1, 2, 3)
    assert stand_in.ConfigDict({**first.a, "d": 5}).d == 5
    with pytest.raises(AttributeError):
        first.missing  # noqa: B018


def test_each_row_of_the_speed_table_names_machine_and_revision():
    cpu = MACHINE | {"device": "cpu", "backend": "cpu", "revision": "def"}
    ours = {"name": "ours", "items_per_s": 50.0, "ratio": 1.0, "peer": False}
    theirs = {"name": "theirs", "items_per_s": 25.0, "ratio": 2.0, "peer": True}
    table = {"work": {"unit": "images", "rows": [ours, theirs]}}
    records = [{"benchmark": "a", "environment": m, "tables": table} for m in (MACHINE, cpu)]
    lines = report.speed_tables(records).splitlines()[2:]
    assert lines == [
        "| work | card <1> | abc | 50 images/s | theirs | 2 |",
        "| work | 4 CPU cores | def | 50 images/s | theirs | 2 |",
    ]


def test_the_pages_hold_what_the_results_say(monkeypatch, tmp_path):
    """README and docs/training.md are as `--suite=none` writes them; no figure was typed."""
    before = {}
    for name in ("README.md", "docs/training.md"):
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        before[place] = (report.ROOT / name).read_text()
        place.write_text(before[place])
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "PAGE", tmp_path / "report.html")
    report.write_tables()
    assert {place: place.read_text() for place in before} == before


def test_the_demo_names_its_own_machine():
    record = {"timings": {"seconds": 90.0, "peak_memory_gib": 1.25}, "environment": MACHINE}
    words = report._timing_words(record | {"environment": MACHINE | {"backend": "cpu"}})
    assert "1.5 minutes" in words and "4 CPU cores)" in words and "revision abc" in words
    busy = MACHINE | {"backend": "cpu", "load": 15.2}
    words = report._timing_words(record | {"environment": busy})
    assert "(4 CPU cores, beside other work: 15 processes shared them)" in words


def test_a_benchmark_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(report, "QUICK", ("nothing_of_this_name",))
    assert report.run_suite("quick") == ["nothing_of_this_name"]
    assert report.run_suite("none") == []
