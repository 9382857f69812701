"""Any number of channels and any rectangle: trained on, and synthesised whole."""

import dataclasses
import json

import numpy as np
import pytest

from msi2he_jax.data import loader
from msi2he_jax.inference import load_model, synthesize_tiled
from msi2he_jax.training import loop


def _resized(arrays: loader.Arrays, channels: int, shape: tuple[int, int]) -> loader.Arrays:
    """Two pairs of random pixels of another size."""
    rng = np.random.default_rng(0)
    many = (2, *shape)
    histology = rng.integers(0, 256, (*many, 3), np.uint8)
    return dataclasses.replace(
        arrays,
        msi=rng.random((*many, channels), np.float32),
        histology=histology,
        view=histology,
        tissue_mask=np.ones(many, bool),
        valid_mask=np.ones(many, bool),
        extent_px=np.tile(np.array(shape, np.int32), (2, 1)),
        um_per_px=arrays.um_per_px[:2],
        msi_to_histology=arrays.msi_to_histology[:2],
        sample_ids=arrays.sample_ids[:2],
        group_ids=arrays.group_ids[:2],
    )


@pytest.mark.parametrize(
    ("channels", "shape"), [(2, (96, 160)), (500, (96, 160)), (2, (1000, 700))]
)
def test_train_and_synthesize(config, data_dir, tmp_path, make_provenance, channels, shape):
    splits = loader.load_arrays.splits
    splits |= {name: _resized(arrays, channels, shape) for name, arrays in splits.items()}
    (data_dir / "provenance.json").write_text(json.dumps(make_provenance(channels)))
    config.data.augment = "none"
    config.model.norm = "none"
    config.train.update({"steps": 1, "steps_per_call": 1, "batch_size": 1, "image_every": 1})
    config.train.update({"eval_every": 1, "checkpoint_every": 1})
    outcome = loop.train_and_evaluate(config, tmp_path / "run")
    assert (outcome.step, outcome.reason) == (1, "finished")
    model = load_model(tmp_path / "run")
    image = synthesize_tiled(model.apply, splits["train"].msi[0], tile_px=256, overlap_px=32)
    assert image.shape == (*shape, 3) and np.isfinite(image).all() and image.std() > 0
