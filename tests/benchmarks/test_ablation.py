"""The ablation: rows change what they say, folds keep slides apart, words follow the numbers."""

import csv
import json

import numpy as np
import pytest

from benchmarks import ablation, ablation_page, ablation_rows
from benchmarks.ablation_rows import FORMS, OPTIONS, REMOVED, Row, configure, jobs
from msi2he_jax.registration import landmarks

LANDMARKS = "name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um\n" + "".join(
    f"{name},{use},{x},{y},{x},{y}\n"
    for name, use, x, y in [
        ("a", "fit", 100, 100),
        ("b", "fit", 900, 150),
        ("c", "fit", 500, 800),
        ("d", "eval", 400, 400),
    ]
)


@pytest.fixture
def cohort(tmp_path):
    """Rows of a manifest: four slides of two sections."""
    rows = []
    for slide in range(4):
        for turn in range(2):
            name = f"p{slide:02d}_s{turn}"
            path = tmp_path / f"{name}_true.csv"
            path.write_text(LANDMARKS)
            rows.append({"sample_id": name, "group_id": f"p{slide:02d}", "landmarks": str(path)})
    return [row | {"split": ""} for row in rows]


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_row_is_a_valid_configuration_of_its_own(form, tmp_path):
    form = FORMS[form]()
    made = [configure(form, row, tmp_path, 1) for row in form.rows]
    texts = [f"{row.misaligned} {config}" for row, config in zip(form.rows, made, strict=True)]
    assert len(set(texts)) == len(texts)
    assert len({row.folder for row in form.rows}) == len(form.rows)
    assert all(config.seed == 1 and config.data.dir == str(tmp_path) for config in made)
    assert all(config.train.eval_every == config.train.steps for config in made)


def test_the_small_form_has_six_rows_and_the_large_one_every_option_both_ways():
    small, large = FORMS["cpu"](), FORMS["gpu"]()
    assert len(small.rows) == 6 and sum(row.misaligned for row in small.rows) == 2
    names = [row.name for row in large.rows]
    for option in OPTIONS:
        found = [name for name in names if _switches(name, option)]
        assert len(found) == 2, option
    assert len(names) == 2 * (4 + len(OPTIONS))
    words = {name for pair in ablation_rows.COMPARED for name in pair}
    assert words == {row.name for row in small.rows}


def _switches(name, option):
    return name.removesuffix(", misaligned").endswith((f", with {option}", f", without {option}"))


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_all_on_in_one_row_and_all_off_in_the_other(option, tmp_path):
    """The two that are set against each other differ in the option's keys, all of them and only."""
    form = FORMS["gpu"]()  # the small forms have a shorter average
    rows = {row.name: row for row in form.rows}
    names = next(
        pair
        for pair in form.compared
        if _switches(pair[0], option) or (_switches(pair[1], option) and "with" not in pair[0])
    )
    one, two = (dict(_flat(configure(form, rows[name], tmp_path, 0))) for name in names)
    on, off = OPTIONS[option]
    assert set(on) == set(off)
    assert on.items() <= one.items() and off.items() <= two.items()
    assert {key for key in one if one[key] != two[key]} == set(on)


def _flat(config, prefix=""):
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_a_row_that_changes_a_norm_too_says_so():
    for option, (on, _) in OPTIONS.items():
        assert ("discriminator.norm" in on) == ("norm in the discriminator" in option)
        assert ("flow.enabled" not in on) or "unconditional" in option


def test_published_rows_are_named_by_what_they_switch():
    """Rows of the published runs are named as rows that exist, or as options removed since."""
    for form in ("cpu", "options"):
        removed = [f"pix2pix recommended, with {option}" for option in REMOVED]
        removed += [f"{name}, misaligned" for name in removed]
        known = {row.name for row in FORMS[form]().rows} | {"PCA view", *removed}
        record = json.loads((ablation.RESULTS / f"ablation-{form}.json").read_text())
        assert {row["name"] for row in record["rows"]} <= known
        assert {run["row"] for run in record["runs"]} <= known
        pairs = {(each["first"], each["second"]) for each in record["differences"]}
        assert {pair for pair in pairs if pair[0] not in removed} <= set(FORMS[form]().compared)


def test_seeds_take_turns_or_are_crossed():
    assert jobs(FORMS["options"](), 6) == [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1), (5, 2)]
    for form in ("cpu", "gpu"):
        assert len(set(jobs(FORMS[form](), 6))) == 18


def test_a_fold_keeps_slides_apart_and_displaces_training_pairs_only(cohort, tmp_path):
    place = tmp_path / "fold"
    place.mkdir()
    ablation.write_fold(cohort, 3, place, misaligned=True)
    with open(place / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    splits = {row["group_id"]: row["split"] for row in rows}
    assert splits == {"p00": "validation", "p01": "train", "p02": "train", "p03": "test"}
    for row, before in zip(rows, cohort, strict=True):
        moved = landmarks.read_landmarks(row["landmarks"]).msi_yx_um
        shift = moved - landmarks.read_landmarks(before["landmarks"]).msi_yx_um
        if row["split"] == "train":
            middle = np.linalg.norm(shift.mean(axis=0)) / ablation.MSI_UM
            assert 1.0 <= middle <= 4.0
        else:
            assert row["landmarks"] == before["landmarks"]


def test_a_displacement_is_rigid_and_follows_from_the_section(cohort):
    points = landmarks.read_landmarks(cohort[0]["landmarks"])
    one, again, other = (ablation.displaced(points, n).msi_yx_um for n in (0, 0, 1))
    assert np.array_equal(one, again) and not np.allclose(one, other)
    sides = [np.linalg.norm(p[:, None] - p, axis=-1) for p in (points.msi_yx_um, one)]
    assert np.allclose(*sides)


def _run(row, fold, seed, shift):
    base = {"ssim_masked": 0.5, "mi_corrected_nats": 0.2, "stain_h_correlation": 0.3}
    base |= {"stain_e_correlation": 0.3, "tre_median_um": 50.0, "tre_median_msi_px": 1.0}
    samples = [
        {"sample_id": f"p{fold}_s{k}", "slide": f"p{fold}", "success": 1.0}
        | {name: value + 0.01 * k * fold + shift for name, value in base.items()}
        for k in range(3)
    ]
    return {"row": row, "fold": fold, "seed": seed, "seconds": 1.0, "steps": 2, "samples": samples}


def test_words_follow_the_numbers_whichever_way_they_fall():
    better, worse = ablation_rows.COMPARED[0]
    runs = [_run(name, f, f, s) for name, s in ((better, 0.1), (worse, 0.0)) for f in range(4)]
    record = ablation_page.record(FORMS["cpu"](), runs[::-1])
    (difference,) = record["differences"]
    assert difference["sections"] == 12 and record["slides"] == 4
    told = ablation_page.words(record).splitlines()[-1].split(" | ")
    assert "MI corrected, nats +0.100 (+0.100 to +0.100)" in told[1]
    assert "TRE, um" in told[2] and "below 2 MSI px" in told[3]
    assert f"| {better} | 0." in ablation_page.table(record)


def test_an_option_is_judged_as_on_minus_off_whichever_row_has_it():
    form = FORMS["options"]()
    assert len(form.rows) == 2 * (1 + len(OPTIONS)) and len(form.compared) == 2 * len(OPTIONS)
    base = "pix2pix recommended"
    # Better with the one that is on, and better, too, without the one that is on already.
    shifts = {
        base: 0.0,
        f"{base}, with elastic augmentation": 0.1,
        f"{base}, without pyramid L1": 0.1,
    }
    runs = [_run(name, f, f, shift) for name, shift in shifts.items() for f in range(4)]
    lines = ablation_page.option_table(ablation_page.record(form, runs)).splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in lines]
    assert [row[:2] for row in cells] == [
        ["elastic augmentation", "aligned"],
        ["pyramid L1", "aligned"],
    ]
    assert cells[0][2].startswith("**better** +0.100") and cells[0][3].startswith("**worse** +0.10")
    assert cells[1][2].startswith("**worse** -0.100") and cells[1][3].startswith("**better** -0.10")


def test_a_slide_is_one_observation():
    slides, values = ["a"] * 50 + ["b"] * 50 + ["c"], np.r_[np.zeros(50), np.ones(50), 2.0]
    found = ablation_page.interval(values, slides, np.mean)
    half = 4.302652729749464 / np.sqrt(3)  # Student's t for 2 degrees of freedom, spread 1
    assert found == pytest.approx({"mean": 1.0, "low": 1 - half, "high": 1 + half})
    same = ablation_page.interval(values, slides, np.mean, values)
    assert same == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert ablation_page.verdict(same, True) == "within"


def test_one_slide_proves_nothing():
    found = ablation_page.interval([1.0, 2.0], ["a", "a"], np.mean)
    assert ablation_page.verdict(found, True) == "within"
    assert ablation_page.shown(found, 1) == "1.5"


def test_an_unknown_row_is_refused(capsys):
    with pytest.raises(SystemExit):
        ablation.parse(["--rows", "absent"])
    assert "absent not among U-Net paper" in capsys.readouterr().err


def test_a_run_that_is_there_is_not_done_again(tmp_path):
    form, row = FORMS["cpu"](), Row("a row", "pix2pix.py")
    folder = tmp_path / "cpu" / "a-row" / "fold_0_seed_1"
    folder.mkdir(parents=True)
    (folder / "ablation.json").write_text('{"row": "a row", "samples": []}')
    assert ablation.one_run(form, row, tmp_path, tmp_path, 0, 1)["row"] == "a row"


def test_the_page_has_the_markers_that_are_filled(tmp_path, monkeypatch):
    page, results = tmp_path / "results.md", tmp_path / "results"
    results.mkdir()
    page.write_text(ablation.PAGE.read_text())
    monkeypatch.setattr(ablation_page, "RESULTS", results)
    tuned = [{"norm": "batch", "rate": 0.001, "mae_masked": 0.1, "mi_corrected_nats": 0.25}]
    (results / "tune-unet.json").write_text(json.dumps({"validation": tuned}))
    machine = {"device": "a device", "revision": "abc", "date": "2026-01-01"}
    record = {"form": "gpu", "slides": 6, "seeds": [0], "rows": [], "differences": []}
    (results / "ablation-gpu.json").write_text(json.dumps(record | {"environment": machine}))
    ablation_page.write(page)
    text = page.read_text()
    assert (
        "| batch | 0.001 | 0.100 | 0.250 |" in text
        and "6 slides left out, seeds [0], a device. Measured at revision abc" in text
    )


def test_the_page_is_as_the_results_write_it(tmp_path):
    page = tmp_path / "results.md"
    page.write_text(ablation.PAGE.read_text())
    ablation_page.write(page)
    assert page.read_text() == ablation.PAGE.read_text()


def test_what_is_done_is_collected_without_running_anything(tmp_path):
    row = FORMS["cpu"]().rows[1]
    for fold in (0, 3):
        folder = tmp_path / "cpu" / row.folder / f"fold_{fold}_seed_0"
        folder.mkdir(parents=True)
        (folder / "ablation.json").write_text(json.dumps({"row": row.name, "fold": fold}))
    options = ablation.parse([f"--out={tmp_path}", "--collect", "--folds", "3"])
    assert list(ablation.all_runs(options, FORMS["cpu"](), [])) == [{"row": row.name, "fold": 3}]
