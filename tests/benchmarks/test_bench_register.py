"""The registration benchmark judges by the truth, keeps its cells, drives peers in our frame."""

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import bench_register, registration_methods, registration_pairs
from benchmarks.registration_pairs import Case
from msi2he_jax.io_safety import read_json
from msi2he_jax.registration import transforms
from msi2he_jax.registration.automatic import make_pair
from msi2he_jax.registration.transforms import Transform

SLIDE_UM, MSI_UM, SHAPE = 25.0, 100.0, (48, 50)
TRUTH = transforms.rotation(5, center_from=(2400, 2500), center_to=(2050, 1950))


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :180] / 160 - 0.5
    mask = np.hypot(y, 1.3 * x) < 0.38
    density = np.where(mask, 1 + 6 * ndimage.gaussian_filter(rng.normal(size=y.shape), 6), 0.02)
    options = {
        "source_um_per_px": SLIDE_UM,
        "matrix_out_to_source": TRUTH,
        "out_shape": SHAPE,
        "out_um_per_px": MSI_UM,
    }
    seen, tissue = (transforms.warp_image(image, **options) for image in (density, mask))
    sizes = {"moving_um_per_px": MSI_UM, "fixed_um_per_px": SLIDE_UM}
    msi = (np.argwhere(tissue) + 0.5) * MSI_UM
    points = msi, transforms.apply_affine(TRUTH, msi)
    pair = make_pair(3.0 - seen, density, None, mask, **sizes)
    return Case("a", pair, *points, *(p[::60] for p in points), MSI_UM, 6000.0)


def test_the_truth_scores_perfectly_and_a_shift_by_its_length(case):
    row = bench_register.judge(case, Transform(TRUTH))
    assert row["tre_max_um"] < 1e-9 and row["dice"] > 0.99 and row["success"]
    shifted = transforms.compose(transforms.from_parts(np.eye(2), (300.0, 0.0)), TRUTH)
    row = bench_register.judge(case, Transform(shifted))
    assert row["tre_median_msi_px"] == pytest.approx(3.0) and not row["success"]
    assert row["rtre_median"] == pytest.approx(0.05)
    assert row["dice"] < 0.95


@pytest.mark.parametrize("method", ["control points", "SimpleITK affine, 1 start"])
def test_methods_answer_in_our_frame(case, method):
    (found,) = registration_methods.METHODS[method][0]([case])
    assert bench_register.judge(case, found)["tre_median_msi_px"] < 0.5


@pytest.mark.slow
@pytest.mark.interop
def test_elastix_answers_in_our_frame(case, real_library):
    real_library("itk.itkElastixRegistrationMethodPython")
    (found,) = registration_methods.elastix([case])
    assert bench_register.judge(case, found)["tre_median_msi_px"] < 0.5


def test_a_mirrored_start_is_mirrored_about_the_tissue(case):
    tried = registration_methods._sitk_from(
        case, registration_methods._sitk_images(case), 0.0, mirrored=True
    )
    assert transforms.decompose(tried[1])["mirrored"]


def test_a_dense_field_splits_into_matrix_and_rest(case):
    um, corner = 40.0, np.array([100.0, 200.0])
    axis = (np.arange(64) + 0.5) * um
    y, x = np.meshgrid(corner[0] + axis, corner[1] + axis, indexing="ij")
    bump = 30 * np.exp(-(((y - 1300) / 400) ** 2) - ((x - 1500) / 400) ** 2)
    points = np.stack([y, x], axis=-1)
    disp = transforms.apply_affine(TRUTH, points) - points + bump[..., None]
    found = registration_methods._as_field(case, disp, um, corner)
    moved = found(points)
    np.testing.assert_allclose(moved, points + disp, atol=1e-6)
    assert np.abs(found.displacement.disp_um).max() < 40


def test_an_easy_case_is_nearly_upright_and_still_true(case):
    turned = registration_pairs._turned(case, 3)
    matrix = np.linalg.lstsq(
        np.c_[turned.msi_yx_um, np.ones(len(turned.msi_yx_um))], turned.histology_yx_um, rcond=None
    )[0]
    said = transforms.decompose(transforms.from_parts(matrix[:2].T, matrix[2]))
    assert abs(said["rotation_deg"]) <= registration_pairs.EASY_DEG and not said["mirrored"]
    true = transforms.from_parts(matrix[:2].T, matrix[2])
    assert bench_register.judge(turned, Transform(true))["dice"] > 0.97


def test_cells_are_kept_and_not_measured_again(case, tmp_path, monkeypatch, capsys):
    made = []

    def cases(*args, **options):
        made.append(args)
        return [case]

    monkeypatch.setattr(registration_pairs, "cases", cases)
    words = [f"--out={tmp_path}", "--pairs=1", "--cohorts=easy", "--views=pca,umap"]
    words += ["--methods=identity;control points"]
    bench_register.main(words)
    first = capsys.readouterr().out
    bench_register.main(words)
    assert capsys.readouterr().out == first
    assert len(made) == 1 and len(list(tmp_path.glob("*.json"))) == 2
    assert "| easy | any | control points | 1 | 100% |" in first
    bench_register.main([*words[:1], "--pairs=2", *words[2:]])
    assert len(made) == 2


def test_all_cells_become_one_table(case, tmp_path, monkeypatch):
    monkeypatch.setattr(registration_pairs, "cases", lambda *args, **options: [case])
    monkeypatch.setattr(bench_register.harness, "RESULTS", tmp_path / "results")
    page = tmp_path / "registration.md"
    page.write_text("before\n<!-- registration:begin -->\nold\n<!-- registration:end -->\nafter\n")
    monkeypatch.setattr(bench_register, "PAGE", page)
    words = [f"--out={tmp_path / 'cells'}", "--pairs=1", "--views=pca"]
    bench_register.main([*words, "--cohorts=warped", "--methods=identity"])
    bench_register.main([*words, "--cohorts=easy", "--methods=control points", "--save"])
    lines = page.read_text().splitlines()
    assert lines[1 + lines.index("<!-- registration:begin -->")].startswith("Collected at revision")
    assert lines[0] == "before" and lines[-1] == "after" and "old" not in lines
    assert [line.split(" | ")[:3] for line in lines[6:8]] == [
        ["| easy", "any", "control points"],
        ["| warped", "any", "identity"],
    ]
    saved = read_json(tmp_path / "results" / "registration.json")
    assert saved["simulated"] and [row["cohort"] for row in saved["rows"]] == ["easy", "warped"]


def test_the_page_holds_the_kept_table():
    kept = bench_register.page_table(
        read_json(bench_register.harness.RESULTS / "registration.json")
    )
    assert f"<!-- registration:begin -->\n{kept}\n<!-- registration:end -->" in (
        bench_register.PAGE.read_text()
    )


def test_rounds_become_a_table(tmp_path, monkeypatch):
    page, rounds = tmp_path / "registration.md", tmp_path / "rounds.csv"
    page.write_text("<!-- bootstrap:begin -->\n<!-- bootstrap:end -->")
    rounds.write_text("round,pairs\n0,auto\n1,round 0\n")
    monkeypatch.setattr(bench_register, "PAGE", page)
    bench_register.main([f"--rounds={rounds}"])
    assert page.read_text().splitlines()[1:-1] == [
        "| round | pairs |",
        "| --- | --- |",
        "| 0 | auto |",
        "| 1 | round 0 |",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cohorts=hard"], "hard not among easy"),
        (["--methods=guess"], "guess not among identity"),
        (["--views=synthetic"], "--run: is required"),
        (["--pairs=0"], "at least 1"),
    ],
)
def test_wrong_words_are_refused(words, said, capsys):
    with pytest.raises(SystemExit):
        bench_register.parse(words)
    assert said in capsys.readouterr().err
