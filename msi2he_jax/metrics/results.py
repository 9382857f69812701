"""results.json as a value: how it is put together."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msi2he_jax.metrics.evaluation import DEFINITIONS, summarize
from msi2he_jax.plain_json import json_ready

FORMAT = 2
_PACKAGES = ("msi2he-jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")

Scores = Mapping[str, Mapping[str, np.ndarray]]


def split_block(
    scores: Scores,
    nulls: Mapping[str, Scores],
    sample_ids: Sequence[str],
    group_ids: Sequence[str],
    *,
    extra: Mapping[str, np.ndarray],
    alternatives: Mapping[str, Scores],
    data_sha256: str,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything results.json says of one split.

    Args:
        scores: The model's, as `evaluation.score_images` gives them, `[N]` each.
        nulls: The same of each baseline by name.
        sample_ids: N names.
        group_ids: N names of patients.
        extra: More values per sample, `[N]` each, such as the distance to the nearest training
            image.
        alternatives: Scores of the same model used otherwise, by name.
        data_sha256: Of what was scored against, from `data_digest`.
        seed: Seed of the bootstrap.

    Returns:
        Blocks `paper`, `tissue`, `null`, `memorisation`, `alternatives` and `per_sample`, counts,
        and `words` on the background.
    """

    def summary(values):
        return summarize(values, group_ids, seed=seed)

    per_image = {**scores["paper"], **scores["tissue"], **extra}
    numbers = {name: values for name, values in extra.items() if values.dtype.kind == "f"}
    block = {
        "paper": summary(scores["paper"]),
        "tissue": summary(scores["tissue"]),
        "null": {name: summary({**s["paper"], **s["tissue"]}) for name, s in nulls.items()},
        "memorisation": summary(numbers),
        "alternatives": {
            name: {part: summary(values) for part, values in other.items()}
            for name, other in alternatives.items()
        },
        "data_sha256": data_sha256,
        "samples": len(sample_ids),
        "groups": len(set(group_ids)),
        "per_sample": [
            {"sample_id": sample, "group_id": group}
            | {name: values[i].item() for name, values in per_image.items()}
            for i, (sample, group) in enumerate(zip(sample_ids, group_ids, strict=True))
        ],
    }
    block["words"] = background_words(block)
    return json_ready(block)


def data_digest(sample_ids: Sequence[str], histology: np.ndarray, *masks: np.ndarray) -> str:
    """Returns the SHA-256 of what scores are measured against: equal only for equal data.

    Args:
        sample_ids: N names.
        histology: `[N, H, W, 3]` uint8, padding included.
        masks: `[N, H, W]` bool each.
    """
    digest = hashlib.sha256("\n".join(sample_ids).encode())
    for array in (histology, *masks):
        digest.update(f"{array.dtype}:{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def background_words(block: Mapping[str, Any]) -> str:
    """Says how much of the whole-frame SSIM an empty slide has already."""
    share = block["tissue"]["tissue_fraction"]["mean"]
    text = f"Tissue fills {share:.0%} of the frame"
    if "empty_slide" not in block["null"]:
        return text + "."
    empty, model = block["null"]["empty_slide"]["ssim"]["mean"], block["paper"]["ssim"]["mean"]
    return (
        f"{text}: a slide without any tissue scores SSIM {empty:.3f} on the whole frame here, the "
        f"model {model:.3f}. That much is background; the scores in the tissue are what counts."
    )


def document(
    splits: Mapping[str, Any],
    *,
    run: str,
    model: str,
    padding: str,
    paper_row: str | None,
    recipe: str,
    checkpoint: Mapping[str, Any],
    norm_at_test: str,
    dropout_at_test: bool,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole of results.json.

    Args:
        splits: `split_block` by split name.
        run: Name of the run.
        model: "linear", "U-Net" or "pix2pix", as `model_kind` names it.
        padding: "white" or "black", around the histology.
        paper_row: The paper's row that the run belongs to by its recipe; None for no row.
        recipe: In words, how the run's recipe differs from the paper's.
        checkpoint: `which` and `step`.
        norm_at_test: "batch" or "running".
        dropout_at_test: Whether dropout acted.
        provenance: The data set's provenance.json; `simulated`, `paper_data` and `content_sha256`
            are read.
    """
    simulated, paper_data = (bool(provenance.get(key)) for key in ("simulated", "paper_data"))
    return {
        "format": FORMAT,
        "simulated": simulated,
        "comparable_with_paper": paper_data and not simulated,
        "words": data_words(simulated, paper_data),
        "run": run,
        "model": model,
        "padding": padding,
        "paper_row": paper_row,
        "recipe": recipe,
        "content_sha256": provenance.get("content_sha256"),
        "checkpoint": dict(checkpoint),
        "norm_at_test": norm_at_test,
        "dropout_at_test": dropout_at_test,
        "interval": "95 %, bootstrap over groups; absent where there is one group",
        "definitions": DEFINITIONS,
        "versions": versions(),
        **splits,
    }


def data_words(simulated: bool, paper_data: bool) -> str:
    """Says what the scores were measured on, and whether the paper's stand beside them."""
    if simulated:
        return "simulated data: not comparable with the paper"
    if paper_data:
        return "the paper's data"
    return "other data than the paper's: not comparable with it"


def model_kind(generator: str, discriminator: str) -> str:
    """Names the kind of a model: "linear", or what the paper calls it, "U-Net" or "pix2pix"."""
    if generator == "linear":
        return "linear"
    return "U-Net" if discriminator == "none" or generator == "unet_ronneberger" else "pix2pix"


def csv_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The per-sample lists of all splits as rows of results.csv, `split` first."""
    return [
        {"split": split, **sample}
        for split, block in results.items()
        if isinstance(block, Mapping) and "per_sample" in block
        for sample in block["per_sample"]
    ]


def other_splits(earlier: Mapping[str, Any], results: Mapping[str, Any], split: str) -> dict:
    """Blocks of an earlier results.json that still hold: other splits of the same data.

    Args:
        earlier: The earlier results.json.
        results: What will replace it.
        split: The split that was scored now.
    """
    same = ("format", "checkpoint", "content_sha256", "padding", "norm_at_test", "dropout_at_test")
    if any(earlier.get(key) != results[key] for key in same):
        return {}
    return {
        name: block
        for name, block in earlier.items()
        if name != split and isinstance(block, Mapping) and "per_sample" in block
    }


def versions() -> dict[str, str]:
    """Versions of Python and of what computes the scores; packages not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
