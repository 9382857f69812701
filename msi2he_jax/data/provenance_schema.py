"""What every value of provenance.json that is read must be: checked once, before any of it is used.

What may be absent is what older data sets do not have. What nothing reads is not listed.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from msi2he_jax.data.recipe import PAD_VALUES, Recipe
from msi2he_jax.data.split import SPLITS
from msi2he_jax.json_schema import (
    ANY,
    BOOLEAN,
    COUNT,
    NUMBER,
    POSITIVE,
    TEXT,
    WHOLE,
    Each,
    Kind,
    Maybe,
    choice,
)
from msi2he_jax.msi.axes import KINDS as AXES
from msi2he_jax.msi.imzml import DUPLICATES
from msi2he_jax.msi.normalization import KINDS as NORMALIZATIONS
from msi2he_jax.msi.rebinning import METHODS
from msi2he_jax.msi.treatment import BASELINES, SMOOTHINGS

# By a field's annotation in `Recipe`; those of few values stand below.
_BY_TYPE = {
    "str": TEXT,
    "int": WHOLE,
    "bool": BOOLEAN,
    "float": NUMBER,
    "float | None": Maybe(NUMBER),
    "str | None": Maybe(TEXT),
    "tuple[float, ...]": [NUMBER],
    "tuple[str, ...]": [TEXT],
    "tuple[tuple[float, float], ...]": [[NUMBER]],
}
_BY_NAME = {
    "duplicates": choice(*DUPLICATES),
    "axis_kind": choice(*AXES),
    "method": Maybe(choice(*METHODS)),
    "smoothing": choice(*SMOOTHINGS),
    "baseline": choice(*BASELINES),
    "recalibrate": choice("none", "sums", "lock"),
    "statistics": choice("train", "all"),
    "normalization": choice(*NORMALIZATIONS),
    "transform": choice("sqrt", "none"),
    "padding": choice(*PAD_VALUES),
}
_RECIPE = {
    f"{field.name}?": _BY_NAME.get(field.name) or _BY_TYPE[field.type]
    for field in dataclasses.fields(Recipe)
}
_ALIGNMENT = {
    "method?": TEXT,
    "leave_one_out_median_um?": Maybe(NUMBER),
    "landmark_median_um?": Maybe(NUMBER),
}
_SAMPLE = {
    "sample_id": TEXT,
    "group_id": TEXT,
    "split": choice(*SPLITS),
    "section?": Maybe(TEXT),
    "sha256?": Each(Maybe(TEXT)),
    "shape?": [COUNT],
    "um_per_px?": POSITIVE,
    "msi_um_per_px?": [POSITIVE],
    "tissue_fraction?": NUMBER,
    "alignment?": _ALIGNMENT,
    "doubt?": TEXT,
    "doubts?": [TEXT],
    "warnings?": [TEXT],
}
_PAD_VALUE = Kind(
    "a whole number from 0 to 255", lambda value: COUNT.accepts(value) and value < 256
)
PROVENANCE: dict[str, Any] = {
    "versions?": Each(TEXT),
    "simulated?": BOOLEAN,
    "paper_data?": BOOLEAN,
    "cohort?": Each(ANY),
    "preset?": TEXT,
    "recipe?": _RECIPE,
    "spectra?": {
        "spectrum_type": Maybe(TEXT),
        "polarity": Maybe(TEXT),
        "discrete": Maybe(BOOLEAN),
    },
    "axis": {
        "kind": choice(*AXES),
        "step": POSITIVE,
        "bins": COUNT,
        "mz_min": POSITIVE,
        "mz_max": POSITIVE,
    },
    "rebin": {
        "method": Maybe(choice(*METHODS)),
        "gap_tol_da": Maybe(NUMBER),
        "window": choice("bounds"),
    },
    "peaks": {"mz": [POSITIVE], "lower": [NUMBER], "upper": [NUMBER], "height": [NUMBER]},
    "peak_names?": [TEXT],
    "normalization": choice(*NORMALIZATIONS),
    "scaling": {
        "transform": choice("sqrt", "none"),
        "percentile?": NUMBER,
        "statistics?": TEXT,
        "scale": [POSITIVE],
    },
    "grid": {"fit_px": COUNT, "target_um_per_px": Maybe(POSITIVE)},
    "padding?": choice(*PAD_VALUES),
    "pad_value": _PAD_VALUE,
    "view?": TEXT,
    "seed?": WHOLE,
    "samples?": [_SAMPLE],
    "skipped?": [{"sample_id": TEXT, "why": TEXT}],
    "doubts?": [TEXT],
    "warnings?": [TEXT],
    "counts": {split: COUNT for split in SPLITS},
    "content_sha256?": TEXT,
    "shards": Each(TEXT),
}
# Of a run's own copy, for a page that shows what is there.
PARTS = {f"{name.removesuffix('?')}?": each for name, each in PROVENANCE.items()}
