"""What the ablation compares: rows as configurations, small ones for a CPU and all for a GPU."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from ml_collections import ConfigDict

from msi2he_jax.config import check_config, load_config

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
# The row keeps the name under which it was published.
PAPER, RECOMMENDED = "pix2pix.py", "pix2pix_robust.py"
UNET_PAPER, UNET_FAIR = "unet.py:paper", "unet.py:fair"
# Pairs of rows that the words compare, better first if all went well.
COMPARED = (
    ("pix2pix recommended", "pix2pix paper"),
    ("pix2pix paper", "U-Net paper"),
    ("pix2pix paper", "U-Net fair"),
    ("pix2pix recommended", "U-Net paper"),
    ("pix2pix recommended", "U-Net fair"),
    ("pix2pix recommended, flow, unconditional, misaligned", "pix2pix recommended, misaligned"),
)
FLOW = {"flow.enabled": True, "discriminator.conditional": False}
# Each option as it is on and as it is off, the same keys in both.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "averaged weights": ({"ema": 0.999}, {"ema": 0.0}),
    "geometric augmentation": (
        {
            "data.augment": "dihedral",
            "augmentation.rotation_deg": 15.0,
            "augmentation.scaling": 0.05,
        },
        {"data.augment": "none", "augmentation.rotation_deg": 0.0, "augmentation.scaling": 0.0},
    ),
    "elastic augmentation": ({"augmentation.elastic_px": 6.0}, {"augmentation.elastic_px": 0.0}),
    "channel gain": ({"augmentation.channel_gain": 0.1}, {"augmentation.channel_gain": 0.0}),
    "MSI augmentation": (
        {
            "augmentation.channel_gain": 0.1,
            "augmentation.channel_dropout": 0.05,
            "augmentation.noise_additive": 0.02,
        },
        {
            "augmentation.channel_gain": 0.0,
            "augmentation.channel_dropout": 0.0,
            "augmentation.noise_additive": 0.0,
        },
    ),
    "instance norm in the discriminator": (
        {"discriminator.norm": "instance"},
        {"discriminator.norm": "batch"},
    ),
    "no norm in the discriminator": (
        {"discriminator.norm": "none"},
        {"discriminator.norm": "batch"},
    ),
    "multi-scale, feature matching": (
        {"discriminator.scales": 2, "loss.feature_matching": 10.0},
        {"discriminator.scales": 1, "loss.feature_matching": 0.0},
    ),
    "resize convolution": ({"model.upsample": "resize"}, {"model.upsample": "deconv"}),
    "instance norm": ({"model.norm": "instance"}, {"model.norm": "batch"}),
    "flow, unconditional": (FLOW, {"flow.enabled": False, "discriminator.conditional": True}),
    "unconditional": ({"discriminator.conditional": False}, {"discriminator.conditional": True}),
    "pyramid L1": ({"loss.pyramid_levels": 3}, {"loss.pyramid_levels": 1}),
    "tissue mask": ({"loss.background_weight": 0.1}, {"loss.background_weight": 1.0}),
}

# Options of the published rows that showed nothing, and were removed since.
REMOVED = (
    "DiffAugment",
    "R1 and instance norm in the discriminator",
    "spectral norm and no norm in the discriminator",
    "group norm",
    "tissue weight",
)

# An option of which `pix2pix_robust` has a part is set against the row without that.
SET_AGAINST = {"MSI augmentation": "channel gain"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What the table calls it.
        config: File of `configs/`, with its variant.
        changes: Keys set otherwise than there.
        misaligned: Whether it trains on displaced pairs.
    """

    name: str
    config: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    misaligned: bool = False

    @property
    def folder(self) -> str:
        """Returns its name as a folder's."""
        return "".join(c if c.isalnum() else "-" for c in self.name)


@dataclasses.dataclass(frozen=True)
class Form:
    """How much is done.

    Attributes:
        name: `cpu`, `options` or `gpu`.
        rows: Lines of the table.
        um_per_px: Pixel size of the pairs, um; the widest section is 3200 um.
        seeds: Seeds of each row, 0 to this.
        crossed: Whether every slide left out has every seed; else the seeds take turns.
        small: Keys set in every row, by model.
        steps: Steps of each configuration file; empty for its own.
        compared: Pairs of rows that the words compare: what is hoped to be better, and the other.
    """

    name: str
    rows: tuple[Row, ...]
    um_per_px: float
    seeds: int = 3
    crossed: bool = True
    small: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    steps: dict[str, int] = dataclasses.field(default_factory=dict)
    compared: tuple[tuple[str, str], ...] = ()


def cpu_form() -> Form:
    """Returns six rows of narrow networks at 64 px; lengths take about as long, row by row."""
    names = [f"pix2pix recommended, {word}misaligned" for word in ("", "flow, unconditional, ")]
    rows = (
        Row("U-Net paper", UNET_PAPER),
        Row("U-Net fair", UNET_FAIR),
        Row("pix2pix paper", PAPER),
        Row("pix2pix recommended", RECOMMENDED),
        Row(names[0], RECOMMENDED, misaligned=True),
        Row(names[1], RECOMMENDED, FLOW, misaligned=True),
    )
    return _small(Form("cpu", rows, 50.0, compared=COMPARED))


def options_form() -> Form:
    """Returns every option on and off against `pix2pix_robust`, as small as those."""
    rows, pairs = option_rows()
    return _small(Form("options", rows, 50.0, crossed=False, compared=pairs))


def gpu_form() -> Form:
    """Returns the same and the other models, at 256 px and full width."""
    names = ("U-Net paper", UNET_PAPER), ("U-Net fair", UNET_FAIR), ("pix2pix paper", PAPER)
    others = [Row(*name) for name in names]
    rows, pairs = option_rows()
    rows = (*others, *(_displaced(row) for row in others), *rows)
    return Form("gpu", rows, 12.5, compared=COMPARED + pairs)


def option_rows() -> tuple[tuple[Row, ...], tuple[tuple[str, str], ...]]:
    """Returns the recommended row and one per option, aligned and misaligned; names on and off."""
    base = Row("pix2pix recommended", RECOMMENDED)
    rows, pairs = [base], []
    config = load_config(CONFIGS / RECOMMENDED)
    for name, (on, off) in OPTIONS.items():
        is_on = is_set(config, on)
        word, change = ("without", off) if is_on else ("with", on)
        row = Row(f"{base.name}, {word} {name}", RECOMMENDED, change)
        rows.append(row)
        other = f"{base.name}, without {SET_AGAINST[name]}" if name in SET_AGAINST else base.name
        pairs.append((base.name, row.name) if is_on else (row.name, other))
    pairs += [tuple(f"{name}, misaligned" for name in pair) for pair in pairs]
    return (*rows, *(_displaced(row) for row in rows)), tuple(pairs)


def _displaced(row: Row) -> Row:
    return dataclasses.replace(row, name=f"{row.name}, misaligned", misaligned=True)


def _small(form: Form) -> Form:
    """The form with narrow networks and short runs."""
    narrow = {"model.features": 16, "discriminator.features": 16, "discriminator.n_layers": 2}
    small = {
        PAPER: narrow | {"model.depth": 6},
        RECOMMENDED: narrow | {"model.depth": 6, "ema": 0.98, "flow.features": 16},
        UNET_PAPER: {"model.features": 16, "data.crop_px": 16},
        UNET_FAIR: {"model.features": 16},
    }
    steps = {PAPER: 800, RECOMMENDED: 250, UNET_PAPER: 40, UNET_FAIR: 300}
    return dataclasses.replace(form, small=small, steps=steps)


def jobs(form: Form, slides: int) -> list[tuple[int, int]]:
    """Returns (number of the slide left out, seed) in the order they are run.

    Args:
        form: Says how many seeds, and whether each slide has all.
        slides: How many slides there are.
    """
    if form.crossed:
        return [(fold, seed) for seed in range(form.seeds) for fold in range(slides)]
    return [(fold, fold % form.seeds) for fold in range(slides)]


FORMS = {"cpu": cpu_form, "options": options_form, "gpu": gpu_form}


def is_set(config: ConfigDict, changes: dict[str, Any]) -> bool:
    """Returns whether a configuration has an option on: every key of it, not the first alone."""
    return all(value_of(config, key) == wanted for key, wanted in changes.items())


def value_of(config: ConfigDict, key: str) -> Any:
    """Returns the value of a key such as `loss.gan`."""
    for part in key.split("."):
        config = config[part]
    return config


def configure(form: Form, row: Row, data: pathlib.Path, seed: int) -> ConfigDict:
    """Makes the checked configuration of one run; only its end is evaluated and kept.

    Args:
        form: Gives the size.
        row: Gives the rest.
        data: Its pairs.
        seed: Of the run.
    """
    config = load_config(f"{CONFIGS / row.config}")
    changes = {**form.small.get(row.config, {}), **row.changes}
    changes |= {"data.dir": str(data), "seed": seed}
    steps = form.steps.get(row.config, config.train.steps)
    ends = ("steps", "eval_every", "checkpoint_every", "image_every")
    changes |= {f"train.{name}": steps for name in ends} | {"train.epochs": 0}
    config.update_from_flattened_dict(changes)
    check_config(config, row.name)
    return config
