"""Configurations, runs and data sets that are damaged or would harm; changed by code."""

import json
import pathlib


def edit_json(path: pathlib.Path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def unlisted(folder, change=lambda folder: None):
    """Changes a data set and its list of hashes with it, as someone who means harm would."""
    change(folder)
    (folder / "SHA256SUMS").unlink()


def class_name(folder):
    def change(features):
        features["featuresDict"]["features"]["msi"]["pythonClassName"] = "hostile_module.X"

    edit_json(folder / "features.json", change)


def flip(path, place=0.5):
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def shard(folder):
    return sorted(folder.glob("*train*.array_record*"))[0]


def weights(folder):
    files = [path for path in (folder / "checkpoints").rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


# What is done to a good data set.
DATA = {
    "data: shard flipped": lambda d: flip(shard(d)),
    "data: shard cut": lambda d: shard(d).write_bytes(shard(d).read_bytes()[:-1]),
    "data: shard emptied": lambda d: shard(d).write_bytes(b""),
    "data: shard gone": lambda d: shard(d).unlink(),
    "data: shard gone and unlisted": lambda d: unlisted(d, lambda d: shard(d).unlink()),
    "data: features.json names a module": class_name,
    "data: features.json names a module, unlisted": lambda d: unlisted(d, class_name),
    "data: dataset_info.json flipped": lambda d: flip(d / "dataset_info.json"),
    "data: provenance.json gone": lambda d: (d / "provenance.json").unlink(),
    "data: provenance.json cut": lambda d: (d / "provenance.json").write_text("{"),
    "data: provenance of others": lambda d: (d / "provenance.json").write_text("[]"),
    "data: provenance flipped": lambda d: (d / "provenance.json").write_text(
        (d / "provenance.json").read_text().replace('"normalization"', '"normalizatioo"')
    ),
    "data: list of hashes flipped": lambda d: flip(d / "SHA256SUMS", 0.01),
    "data: list leads out": lambda d: (d / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n"),
}
# What is done to a good run.
RUN = {
    "run: no config.json": lambda r: (r / "config.json").unlink(),
    "run: config.json cut": lambda r: (r / "config.json").write_text("{"),
    "run: config.json a list": lambda r: (r / "config.json").write_text("[]"),
    "run: unknown key": lambda r: edit_json(r / "config.json", lambda c: c.update(zzyzx=1)),
    "run: another width": lambda r: edit_json(
        r / "config.json", lambda c: c["model"].update(features=24)
    ),
    "run: width of words": lambda r: edit_json(
        r / "config.json", lambda c: c["model"].update(features="wide")
    ),
    "run: weights flipped": lambda r: flip(weights(r)),
    "run: weights cut": lambda r: weights(r).write_bytes(weights(r).read_bytes()[:99]),
    "run: weights gone": lambda r: weights(r).unlink(),
    "run: provenance scaled": lambda r: edit_json(
        r / "provenance.json", lambda p: p["scaling"].update(scale=[4.0] * CHANNELS)
    ),
    "run: no provenance": lambda r: (r / "provenance.json").unlink(),
}
# Configurations, as JSON or Python, and the words that follow them.
CONFIGS = {
    "config: no json": ("c.json", "{", []),
    "config: a list": ("c.json", "[]", []),
    "config: unknown key": ("c.json", '{"train": {"step": 3}}', []),
    "config: wrong type": ("c.json", '{"train": {"steps": "many"}}', []),
    "config: true for a number": ("c.json", '{"train": {"steps": true}}', []),
    "config: section as number": ("c.json", '{"train": 3}', []),
    "config: out of range": ("c.json", '{"train": {"batch_size": 0}}', []),
    "config: not finite": ("c.json", '{"ema": NaN}', []),
    "config: choice": ("c.json", '{"model": {"name": "unet_pix2pics"}}', []),
    "config: pair": ("c.json", '{"loss": {"gan": "wgangp"}}', []),
    "config: name leads out": ("c.json", '{"name": "../../x"}', []),
    "config: fault in python": ("c.py", "def get_config():\n    return 1 / 0\n", []),
    "config: no function": ("c.py", "x = 1\n", []),
    "config: another kind": ("c.yaml", "train: 3\n", []),
    "config: override": ("c.json", "{}", ["--config.train.steps=2.5"]),
    "config: override of nothing": ("c.json", "{}", ["--config.trian.steps=2"]),
}
CHANNELS = 4


def write_data(folder):
    """Writes a data set of three examples, one per split."""
    import numpy as np

    from msi2he_jax.data.builder import write_dataset

    rng = np.random.default_rng(0)

    def example(split):
        picture = rng.integers(0, 256, (8, 8, 3), np.uint8)
        return {
            "sample_id": split,
            "group_id": split,
            "msi": rng.random((8, 8, CHANNELS), np.float32),
            "histology": picture,
            "view": picture,
            "msi_mask": np.ones((8, 8), bool),
            "tissue_mask": np.ones((8, 8), bool),
            "msi_to_histology": np.eye(3),
            "um_per_px": 50.0,
        }

    splits = {name: lambda name=name: [example(name)] for name in ("train", "validation", "test")}
    write_dataset(folder, splits, _provenance())
    return folder


def _provenance():
    from msi2he_jax.data.provenance import FORMAT

    return {
        "format": FORMAT,
        "axis": {"kind": "ppm", "step": 1e6, "bins": 2, "mz_min": 1.0, "mz_max": 2.0},
        "peaks": {name: [1.0] * CHANNELS for name in ("mz", "lower", "upper", "height")},
        "rebin": {"method": None, "gap_tol_da": None, "window": "bounds"},
        "normalization": "none",
        "scaling": {"transform": "none", "scale": [1.0] * CHANNELS},
        "grid": {"fit_px": 0, "target_um_per_px": 50.0},
        "pad_value": 255,
        "counts": {"train": 1, "validation": 1, "test": 1},
        "shards": {},
    }


def read_data(folder):
    """Reads a data set as training does."""
    from msi2he_jax.data.loader import load_arrays

    return load_arrays(folder, "train")


def write_run(folder):
    """Writes a run of a tiny U-Net as it stands before the first step."""
    from msi2he_jax import config as configs
    from msi2he_jax.training import checkpoint, methods
    from msi2he_jax.training.same_run import provenance_digest
    from msi2he_jax.training.state import create_train_state

    config = configs.default_config()
    network = {"name": "unet_ronneberger", "depth": 1, "features": 2, "in_channels": CHANNELS}
    config.model.update({**network, "norm": "none"})
    config.discriminator.name = "none"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=2))
    (folder / "provenance.json").write_text(json.dumps(_provenance()))
    state = create_train_state(config, *methods.build_optimizers(config, 1))
    with checkpoint.managers(folder) as managers:
        notes = {"config": config.to_dict(), "provenance": provenance_digest(folder)}
        checkpoint.save(managers["best"], state, notes)
    return folder


def read_run(folder):
    """Reads a run as synthesize does."""
    from msi2he_jax.inference import load_model

    return load_model(folder)
