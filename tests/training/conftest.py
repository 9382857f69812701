"""A tiny cohort in memory and a tiny configuration, so that a whole run takes seconds."""

import json

import numpy as np
import pytest

from msi2he_jax.config import default_config
from msi2he_jax.data import loader
from msi2he_jax.data.builder import write_dataset
from msi2he_jax.errors import InputError

CHANNELS, SIDE_PX = 4, 16


def tiny_arrays(count: int, seed: int) -> loader.Arrays:
    """Pairs whose image is a fixed mixture of the MSI channels: learnable, and quickly."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((count, 4, 4, CHANNELS)).astype(np.float32)
    msi = coarse.repeat(SIDE_PX // 4, axis=1).repeat(SIDE_PX // 4, axis=2)
    mixture = np.linspace(0, 1, CHANNELS * 3, dtype=np.float32).reshape(CHANNELS, 3)
    histology = np.round(255 * msi @ mixture / mixture.sum(axis=0)).astype(np.uint8)
    everywhere = np.ones((count, SIDE_PX, SIDE_PX), bool)
    return loader.Arrays(
        msi=msi,
        histology=histology,
        tissue_mask=everywhere,
        valid_mask=everywhere,
        view=histology[..., ::-1].copy(),
        extent_px=np.full((count, 2), SIDE_PX, np.int32),
        um_per_px=np.full(count, 50.0, np.float32),
        msi_to_histology=np.tile(np.eye(3), (count, 1, 1)),
        sample_ids=tuple(f"s{seed}{n}" for n in range(count)),
        group_ids=tuple(f"g{seed}{n}" for n in range(count)),
    )


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """A folder that the loader takes for a data set of 6 training and 2 validation pairs."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    (folder / "provenance.json").write_text(json.dumps({"simulated": True}))
    splits = {"train": tiny_arrays(6, 0), "validation": tiny_arrays(2, 1)}

    def load_arrays(data_dir, split, **_):
        if split not in splits:
            raise InputError(data_dir, split, "holds no example")
        return splits[split]

    monkeypatch.setattr(loader, "load_arrays", load_arrays)
    load_arrays.splits = splits
    return folder


@pytest.fixture
def config(data_dir):
    """Dropout, batch statistics, a discriminator and an average: all that a state can hold."""
    config = default_config()
    config.name = "tiny"
    config.ema = 0.9
    config.data.dir = str(data_dir)
    config.data.augment = "dihedral"
    config.model.update(
        {"name": "unet_ronneberger", "depth": 1, "features": 2, "upsample": "resize"}
    )
    config.discriminator.update({"features": 2, "n_layers": 1})
    config.optimizer.learning_rate = 3e-3
    config.train.update(
        {
            "steps": 8,
            "batch_size": 2,
            "steps_per_call": 2,
            "eval_every": 4,
            "checkpoint_every": 4,
            "image_every": 8,
        }
    )
    return config


@pytest.fixture
def stored(config, tmp_path, monkeypatch, make_provenance):
    """The tiny configuration on pairs that are on the disk."""
    monkeypatch.undo()
    provenance = make_provenance(CHANNELS)
    provenance["scaling"] = {"transform": "none", "scale": [1.0] * CHANNELS}
    splits = {"train": tiny_arrays(6, 0), "validation": tiny_arrays(2, 1)}
    examples = {name: lambda data=data: list(_examples(data)) for name, data in splits.items()}
    write_dataset(tmp_path / "stored", examples, provenance)
    config.data.dir = str(tmp_path / "stored")
    config.augmentation.rotation_deg = 10.0
    return config


def _examples(data):
    for number in range(len(data)):
        yield {
            "sample_id": data.sample_ids[number],
            "group_id": data.group_ids[number],
            "msi": data.msi[number],
            "histology": data.histology[number],
            "view": data.view[number],
            "msi_mask": data.valid_mask[number],
            "tissue_mask": data.tissue_mask[number],
            "msi_to_histology": np.eye(3),
            "um_per_px": 50.0,
        }
