"""A run's folder as train and evaluate leave it, made by hand."""

import json

import pytest

EVIL = "<script>alert('x')</script>&\"quote\""


def _interval(mean):
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}


def _scores(ssim, masked, mi):
    return {
        "paper": {"mi_nats": _interval(mi), "ssim": _interval(ssim)},
        "tissue": {
            "ssim_masked": _interval(masked),
            "mi_corrected_nats": _interval(mi / 2),
            "psnr_masked_db": _interval(17.0),
            "mae_masked": _interval(0.1),
            "tissue_fraction": _interval(0.4),
        },
    }


def _null(*values):
    blocks = _scores(*values)
    return blocks["paper"] | blocks["tissue"]


def results(masked=0.5):
    """results.json of a test split of three samples."""
    test = _scores(0.8, masked, 0.6) | {
        "null": {
            "empty_slide": _null(0.7, 0.2, 0.0),
            "flat_silhouette": _null(0.85, 0.6, 0.3),
            "mean_training_image": _null(0.6, 0.4, 0.2),
        },
        "memorisation": {
            "fake_to_training_rms": _interval(0.2),
            "real_to_training_rms": _interval(0.25),
        },
        "alternatives": {"norm_at_test=batch": _scores(0.7, 0.4, 0.5)},
        "samples": 3,
        "groups": 2,
        "words": "A slide without any tissue scores SSIM 0.700 on these images.",
        "per_sample": [
            {"sample_id": f"s{i}", "group_id": "g", "ssim_masked": 0.4 + i / 10, "mi_nats": None}
            for i in range(3)
        ],
    }
    return {
        "model": "pix2pix",
        "comparable_with_paper": False,
        "words": "simulated data: not comparable with the paper",
        "norm_at_test": "running",
        "checkpoint": {"which": "best", "step": 40},
        "definitions": {"ssim": "whole frame"},
        "versions": {"jax": "1.2.3"},
        "test": test,
    }


def provenance(simulated=True):
    """provenance.json of six sections, one of them named to do harm."""
    count = 60
    mz = [100.0 + i for i in range(count)]
    return {
        "simulated": simulated,
        "counts": {"train": 4, "validation": 1, "test": 1},
        "peaks": {
            "mz": mz,
            "lower": [m - 0.01 for m in mz],
            "upper": [m + 0.01 for m in mz],
            "height": [float(count - i) for i in range(count)],
        },
        "axis": {"kind": "ppm", "step": 10.0, "bins": 1000, "mz_min": 100.0, "mz_max": 200.0},
        "spectra": {"spectrum_type": "profile", "polarity": "negative", "discrete": False},
        "scaling": {
            "transform": "sqrt",
            "percentile": 99.5,
            "statistics": "train",
            "scale": [1.0] * count,
        },
        "preset": "recommended",
        "view": "pca",
        "warnings": ["a line step is odd"],
        "skipped": [{"sample_id": "s9", "why": "no landmarks"}],
        "samples": [
            {
                "sample_id": EVIL if i == 0 else f"s{i}",
                "group_id": f"g{i}",
                "split": "train",
                "section": "same",
                "shape": [60, 50],
                "um_per_px": 25.0,
                "msi_um_per_px": [50.0, 50.0],
                "tissue_fraction": 0.5,
                "alignment": {"leave_one_out_median_um": 12.0},
            }
            for i in range(6)
        ],
        "versions": {"numpy": "2.0", "jax": "1.2.3"},
    }


def metrics():
    """Lines of metrics.jsonl, one of them with a loss that was not finite."""
    lines = [{"step": 0, "split": "compile", "steps_per_call": 10, "compile_s": 3.5}]
    for step in range(10, 50, 10):
        loss = None if step == 20 else 1.0 / step
        line = {"step": step, "split": "train", "reconstruction": loss, "skipped": 0.0}
        lines.append(line | {"images_per_s": 20.0})
        lines.append(
            {
                "step": step,
                "split": "validation",
                "ssim": 0.5,
                "ssim_masked": step / 100,
                "mae": 0.1,
            }
        )
    return lines


def write_run(folder, *, name="fake", **parts):
    """Writes a run's folder; parts given as None are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config": {"name": name, "train": {"steps": 40, "batch_size": 4}, "data": {}},
        "provenance": provenance(),
        "results": results(),
    } | parts
    for file, value in files.items():
        if value is not None and file != "metrics":
            (folder / f"{file}.json").write_text(json.dumps(value))
    lines = parts.get("metrics", metrics())
    if lines is not None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text + '{"step": 50, "spl')
    return folder


@pytest.fixture(scope="session")
def make_run():
    """Returns `write_run`."""
    return write_run


@pytest.fixture(scope="session")
def made():
    """Returns the functions that make parts of a run, and the harmful name."""
    return {"results": results, "provenance": provenance, "metrics": metrics, "evil": EVIL}
