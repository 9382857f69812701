"""The verb that converts landmarks: the file it writes, and one line for each mistake."""

import json
import re

import numpy as np
import pytest

from msi2he_jax import landmarks, simulate
from msi2he_jax.registration import transforms
from msi2he_jax.registration.landmarks import read_landmarks

RNG = np.random.default_rng(0)
MSI = RNG.uniform(0, 5000, (9, 2))
TURN = transforms.rotation(25, mirrored=True, center_from=(2500, 2500), center_to=(4000, 6000))
SLIDE = transforms.apply_affine(TURN, MSI) + RNG.normal(0, 10, MSI.shape)


def _napari(path, um, size):
    rows = [f"{i},{y},{x}" for i, (y, x) in enumerate(um / size - 0.5)]
    path.write_text("index,axis-0,axis-1\n" + "\n".join(rows) + "\n")
    return path


def _flags(folder, msi=MSI, slide=SLIDE, out="landmarks.csv"):
    return [
        f"--msi_points={_napari(folder / 'msi.csv', msi, 50)}",
        "--msi_um_per_px=50",
        f"--histology_points={_napari(folder / 'slide.csv', slide, 0.5)}",
        "--histology_um_per_px=0.5",
        f"--out={folder / out}",
    ]


def test_two_files_become_landmarks(tmp_path, capsys):
    assert landmarks.main([*_flags(tmp_path), "--eval=2,5"]) == 0
    points = read_landmarks(tmp_path / "landmarks.csv")
    np.testing.assert_allclose(points.msi_yx_um, MSI, atol=1e-3)
    np.testing.assert_allclose(points.histology_yx_um, SLIDE, atol=1e-3)
    assert list(points.select("eval").name) == ["2", "5"]
    assert "9 points, 7 of them to fit\naffine: leave-one-out error median" in (
        capsys.readouterr().out
    )
    assert landmarks.main(_flags(tmp_path)) == 2
    assert "is there already" in capsys.readouterr().err


def test_bigwarp_becomes_landmarks(tmp_path):
    (tmp_path / "b.csv").write_text(
        "\n".join(
            f'"Pt-{i}","true","{x - 25}","{y - 25}","{u - 0.25}","{v - 0.25}"'
            for i, ((y, x), (v, u)) in enumerate(zip(MSI, SLIDE))
        )
    )
    sizes = ["--msi_um_per_px=50", "--histology_um_per_px=0.5"]
    flags = [f"--bigwarp={tmp_path / 'b.csv'}", f"--out={tmp_path / 'l.csv'}", *sizes]
    assert landmarks.main(flags) == 0
    np.testing.assert_allclose(read_landmarks(tmp_path / "l.csv").msi_yx_um, MSI, atol=1e-3)


def _exchanged(points, row):
    turned = points.copy()
    turned[row] = turned[row, ::-1]
    return turned


LINE = np.outer(np.arange(9.0), (100.0, 200.0))


@pytest.mark.parametrize(
    ("msi", "slide", "said"),
    [
        (MSI[:2], SLIDE[:2], "2 given, at least 3 are needed"),
        (LINE, SLIDE, "MSI points: lie on one line"),
        (MSI / 50, SLIDE, "times as large as the MSI (both must be in um: is one in pixels"),
        (MSI, SLIDE / 1000, "both must be in um: is one in pixels or mm?"),
        (_exchanged(MSI, 4), SLIDE, "point 5: errs by"),
        (MSI, _exchanged(SLIDE, 4), "with its histology x and y exchanged it agrees"),
        (
            np.c_[SLIDE[:, 1], MSI[:, 1]],
            np.c_[SLIDE[:, 0], MSI[:, 0]],
            "is msi_y_um exchanged with histology_x_um?",
        ),
    ],
)
def test_points_that_make_no_sense_are_one_line(tmp_path, capsys, msi, slide, said):
    assert landmarks.main(_flags(tmp_path, msi, slide)) == 2
    message = capsys.readouterr().err.strip()
    assert said in message
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "landmarks.csv").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--out: is required"),
        (["--out=l.csv"], "--histology_points: is required"),
        (["--out=l.csv", "--msi_points=a"], "--histology_points: is required"),
        (["--out=l.csv", "--msi_points=a", "--histology_points=b"], "a: points: no such file"),
        (["--out=l.csv", "--bigwarp=b", "--msi_points=a"], "--histology_points: is required"),
        (["--out=l.csv", "--bigwarp=b", "--msi_um_per_px=0"], "--msi_um_per_px"),
        (["--out=l.csv", "--bigwarp=b"], "b: BigWarp landmarks: no such file"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    assert landmarks.main(flags) == 2
    assert said in capsys.readouterr().err


def test_pixels_without_a_size_are_refused(tmp_path, capsys):
    flags = [flag for flag in _flags(tmp_path) if not flag.startswith("--msi_um")]
    assert landmarks.main(flags) == 2
    assert "--msi_um_per_px: is required: napari points count" in capsys.readouterr().err
    assert landmarks.main([*_flags(tmp_path), "--msi_unit=inch"]) == 2
    assert "'inch' is not one of um, nm, mm, px" in capsys.readouterr().err
    assert landmarks.main([*_flags(tmp_path), "--eval=zz"]) == 2
    assert "no point is called 'zz'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two sections to mark landmarks in."""
    place = tmp_path_factory.mktemp("page") / "cohort"
    flags = ["--sections=2", "--grid=16", "--seed=1", "--histology-um-per-px=25"]
    assert simulate.main([f"--out={place}", *flags]) == 0
    return place


def test_a_page_holds_both_pictures_and_the_landmarks_there_are(cohort, tmp_path, capsys):
    names = [path.stem for path in sorted((cohort / "landmarks").iterdir())]
    flags = ["--page", f"--manifest={cohort / 'manifest.csv'}", f"--sample={names[1]}"]
    assert landmarks.main([*flags, f"--out={tmp_path / 'page.html'}"]) == 0
    said = capsys.readouterr().out
    assert f"save {names[1]}_landmarks.csv beside the manifest" in said
    assert "its name in the manifest's column landmarks" in said
    text = (tmp_path / "page.html").read_text()
    data = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text)[1])
    assert data["sample"] == names[1] and data["msi"]["um"] == [50, 50]
    assert data["histology"]["um"] == [25, 25]
    shown = [each["name"] for each in data["msi"]["pictures"]]
    assert shown[:2] == ["PCA view", "Total ion count"] and len(shown) == 10
    assert all(name.startswith("m/z ") for name in shown[2:])
    points = read_landmarks(cohort / "landmarks" / f"{names[1]}.csv")
    assert [point["name"] for point in data["points"]] == list(points.name)
    first = data["points"][0]
    np.testing.assert_allclose(first["msi"][::-1], points.msi_yx_um[0])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out=page.html"], "--manifest: is required"),
        (["--manifest=MANIFEST", "--out=page.csv"], "must end in .html"),
        (["--manifest=MANIFEST", "--out=page.html"], "--sample: is required: 2 sections"),
        (["--manifest=MANIFEST", "--out=x", "--all", "--sample=x"], "does not go with --all"),
        (["--manifest=MANIFEST", "--out=page.html", "--sample=x"], "'x' is not in"),
        (
            ["--manifest=MANIFEST", "--out=page.html", "--sample=SAMPLE", "--moving=synthetic"],
            "shows what is measured",
        ),
    ],
)
def test_mistakes_with_the_page_are_one_line(cohort, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(tmp_path)
    sample = sorted((cohort / "landmarks").iterdir())[0].stem
    known = {"MANIFEST": str(cohort / "manifest.csv"), "SAMPLE": sample}
    for word, value in known.items():
        flags = [flag.replace(word, value) for flag in flags]
    assert landmarks.main(["--page", *flags]) == 2
    message = capsys.readouterr().err.strip()
    assert said in message and len(message.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def unmarked(cohort, tmp_path):
    """A manifest as it is before any landmark is marked: their files and one slide are missing."""
    rows = ["sample_id,imzml,histology,histology_um_per_px,landmarks"]
    for name in sorted(path.stem for path in (cohort / "landmarks").iterdir()):
        files = cohort / "imzml" / f"{name}.imzML", cohort / "histology" / f"{name}.png"
        rows.append(f"{name},{files[0]},{files[1]},25,{name}_landmarks.csv")
    rows.append(f"x1,{files[0]},absent.png,25,x1_landmarks.csv")
    rows.append(f"x2,{files[0]},{files[1]},2.5um,x2_landmarks.csv")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_page_is_made_before_any_landmarks_are(unmarked, tmp_path, capsys):
    """Only the row asked for is looked at, and its landmarks may be missing."""
    flags = ["--page", f"--manifest={unmarked}", f"--out={tmp_path / 'page.html'}"]
    assert landmarks.main([*flags, "--sample=p00_s0"]) == 0
    assert '"points":[]' in (tmp_path / "page.html").read_text().replace(" ", "")
    capsys.readouterr()
    assert landmarks.main([*flags, "--overwrite", "--sample=x1"]) == 2
    assert "1 not found: absent.png (line 4)" in capsys.readouterr().err
    assert landmarks.main([*flags, "--overwrite", "--sample=x2"]) == 2
    assert "'2.5um' is not a positive number" in capsys.readouterr().err


def test_a_page_for_each_section(unmarked, tmp_path, capsys):
    flags = ["--page", "--all", f"--manifest={unmarked}", f"--out={tmp_path / 'pages'}"]
    assert landmarks.main(flags) == 2
    printed = capsys.readouterr()
    pages = sorted(path.name for path in (tmp_path / "pages").iterdir())
    assert len(pages) == 2 and pages[0] == "p00_s0.html"
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in errors] == ["x1", "x2"]
    assert landmarks.main(flags) == 2
    assert "p00_s0.html: --out: is there already" in capsys.readouterr().err
