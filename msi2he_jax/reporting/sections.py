"""What the page says of the data and the set-up: banner, samples, peaks, versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from msi2he_jax.data.provenance import warnings_of
from msi2he_jax.plain_json import json_text
from msi2he_jax.reporting import figures
from msi2he_jax.reporting.html import (
    Markup,
    bullets,
    details,
    facts,
    figure,
    join,
    missing,
    number,
    paragraph,
    plot,
    table,
    tag,
)
from msi2he_jax.reporting.records import RunRecord, score
from msi2he_jax.reporting.scores import best_null

MOST_PEAKS = 50
SIMULATED = (
    "These data are SIMULATED: tissue, slide and mass spectra come from a program. The page shows "
    "that the software works, not how well H&E can be predicted from real measurements."
)
MEASURED = "These data are not simulated, as far as the run's provenance says."
UNKNOWN = "The run does not say whether its data were simulated or measured."
NOT_COMPARABLE = (
    "Its scores cannot be compared with the paper's: those were measured on other sections "
    "(111 DESI/H&E breast pairs, not redistributed)."
)
NO_DIAGNOSIS = (
    "Synthetic H&E is made by a network from mass spectrometry images. It is not a stained "
    "section and not for diagnosis."
)


def header(run: RunRecord, median_tre_um: float | None) -> Markup:
    """Returns title, banner and the few numbers that matter most.

    Args:
        run: The run.
        median_tre_um: Median over samples of the median registration error, um, or None.
    """
    comparable = bool(run.results.get("comparable_with_paper"))
    words = {True: SIMULATED, False: MEASURED, None: UNKNOWN}[run.simulated]
    lines = [tag("strong", words), "" if comparable else NOT_COMPARABLE, NO_DIAGNOSIS]
    banner = tag("div", *(paragraph(line) for line in lines if line), class_="banner", role="note")
    kind = run.results.get("model") or run.config.get("model", {}).get("name") or "a network"
    lead = f"Synthetic H&E from mass spectrometry imaging with {kind}: what went in and came out."
    title = tag("h1", f"Run {run.name}")
    return join([title, paragraph(lead, class_="lead"), banner, _tiles(run, median_tre_um)])


def _tiles(run: RunRecord, median_tre_um: float | None) -> Markup:
    test = run.test()
    tiles = []
    for metric, label in (
        ("ssim_masked", "SSIM in the tissue"),
        ("mi_corrected_nats", "corrected MI in the tissue (nats)"),
    ):
        found, best = score(test, metric), best_null(test, metric)
        if found:
            low, high = found["low"], found["high"]
            words = [] if low is None else [f"95 %: {number(low)} to {number(high)}"]
            words += [f"best baseline {number(best[1])}"] if best else []
            tiles.append(_tile(label, number(found["mean"]), "; ".join(words)))
    if median_tre_um is not None:
        tiles.append(_tile("registration error", f"{median_tre_um:.0f} um", "median of medians"))
    counts = run.provenance.get("counts")
    if isinstance(counts, dict):
        parts = ", ".join(f"{count} {split}" for split, count in counts.items())
        tiles.append(_tile("sections", str(sum(counts.values())), parts))
    return tag("div", *tiles, class_="tiles") if tiles else Markup("")


def _tile(name: str, value: str, more: str) -> Markup:
    parts = (("name", name), ("value", value), ("more", more))
    return tag("div", *(tag("div", text, class_=kind) for kind, text in parts), class_="tile")


def data_section(run: RunRecord) -> Markup:
    """Returns what the data were, in words and a table of samples."""
    provenance = run.provenance
    if not provenance:
        return missing("There is no provenance.json: what the data were is not known.")
    warnings = warnings_of(provenance)
    samples = provenance.get("samples", [])
    skipped = [f"{s['sample_id']}: {s['why']}" for s in provenance.get("skipped", [])]
    parts = [
        facts(_data_facts(provenance, samples)),
        join([tag("h3", "Warnings"), bullets(warnings)]) if warnings else "",
        join([tag("h3", "Left out"), bullets(skipped)]) if skipped else "",
        details("Every section", _sample_table(samples)) if samples else "",
    ]
    return join(part for part in parts if part)


def _data_facts(provenance: Mapping[str, Any], samples: list[dict]) -> list[tuple[str, Any]]:
    spectra, axis = (_mapping(provenance, name) for name in ("spectra", "axis"))
    cohort = _mapping(provenance, "cohort")
    groups = {sample.get("group_id") for sample in samples}
    by_split = Counter(sample.get("split") for sample in samples)
    pairs = [
        ("kind", cohort.get("words") or ("simulated" if provenance.get("simulated") else None)),
        ("sections", _counts(provenance, by_split)),
        ("groups (patients)", len(groups) or None),
        ("sections cut", _join(sorted({str(s["section"]) for s in samples if s.get("section")}))),
        ("common pixel size", _range([s.get("um_per_px") for s in samples], "um")),
        ("MSI pixel size", _range(_flat(s.get("msi_um_per_px") for s in samples), "um")),
        ("spectra", _join([spectra.get("spectrum_type"), spectra.get("polarity")])),
        ("mass axis", _axis(axis)),
        ("preset", provenance.get("preset")),
        ("rebinning", _mapping(provenance, "rebin").get("method") or "by spectrum type"),
        ("normalisation", provenance.get("normalization")),
        ("scaling to 0..1", _scaling(_mapping(provenance, "scaling"))),
        ("around the slide", provenance.get("padding")),
        ("three-channel view", provenance.get("view")),
    ]
    return [(name, value) for name, value in pairs if value]


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _counts(provenance: Mapping[str, Any], by_split: Counter) -> str:
    counts = _mapping(provenance, "counts") or by_split
    parts = ", ".join(f"{count} {split}" for split, count in counts.items())
    return f"{sum(counts.values())}: {parts}; a group is never in two parts"


def _join(values: list) -> str:
    return ", ".join(str(value) for value in values if value)


def _flat(values) -> list:
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def _range(values: list, unit: str) -> str | None:
    known = sorted({round(float(value), 3) for value in values if value is not None})
    if not known:
        return None
    ends = (known[0], known[-1])[: len(known)]
    return " to ".join(f"{end:g}" for end in ends) + f" {unit}"


def _axis(axis: Mapping[str, Any]) -> str | None:
    if not axis:
        return None
    unit = {"ppm": "ppm", "fixed_da": "Da"}.get(axis.get("kind"), axis.get("kind"))
    ends = f"m/z {number(axis.get('mz_min'), 1)} to {number(axis.get('mz_max'), 1)}"
    return f"{ends}, bins of {axis.get('step', 0):.5g} {unit}, {axis.get('bins')} in all"


def _scaling(scaling: Mapping[str, Any]) -> str | None:
    if not scaling:
        return None
    percentile = scaling.get("percentile")
    text = f"{scaling.get('transform')}, each channel by its {percentile} percentile"
    return f"{text} over: {scaling.get('statistics')}"


def _sample_table(samples: list[dict]) -> Markup:
    columns = ["section", "group", "split", "size (px)", "um/px", "tissue", "control points (um)"]
    rows = [
        [
            s.get("sample_id"),
            s.get("group_id"),
            s.get("split"),
            " x ".join(str(side) for side in s.get("shape") or []) or None,
            number(s.get("um_per_px"), 2),
            number(s.get("tissue_fraction"), 2),
            number(_mapping(s, "alignment").get("leave_one_out_median_um"), 1),
        ]
        for s in samples
    ]
    note = "Control points: median error of each landmark under the affine of the others."
    return table("Sections of the data set.", columns, rows, footer=note)


def peaks_section(run: RunRecord) -> Markup:
    """Returns the peaks the model sees, as a plot and a table of the highest."""
    peaks = _mapping(run.provenance, "peaks")
    columns = [peaks.get(name) or [] for name in ("mz", "lower", "upper", "height")]
    count = min(len(column) for column in columns)
    if not count:
        return missing("No peak list: provenance.json has none.")
    mz, lower, upper, height = (np.asarray(column[:count], float) for column in columns)
    alt = f"Stick spectrum of the {count} peaks from m/z {mz.min():.1f} to {mz.max():.1f}."
    drawn = plot(lambda look: figures.peak_sticks(mz, height, look), alt)
    caption = "Heights of the peaks in the spectrum they were picked from."
    order = np.argsort(-height, kind="stable")[:MOST_PEAKS]
    rows = [
        [
            f"{mz[i]:.4f}",
            f"{lower[i]:.4f}",
            f"{upper[i]:.4f}",
            f"{(upper[i] - lower[i]) / mz[i] * 1e6:.1f}",
            f"{height[i] / max(height.max(), 1e-30):.4f}",
        ]
        for i in order
    ]
    headings = ["m/z", "lower bound", "upper bound", "width (ppm)", "relative height"]
    title = f"The {len(order)} highest of {count} peaks." if count > len(order) else "All peaks."
    words = f"{count} peaks, each one channel of the network's input."
    shown = details(f"Peak list ({len(order)} rows)", table(title, headings, rows))
    return join([paragraph(words), figure(drawn, caption), shown])


def setup_section(run: RunRecord) -> Markup:
    """Returns versions and the whole configuration."""
    versions = {
        where: {name.replace("_", "-"): value for name, value in record["versions"].items()}
        for where, record in (("scores", run.results), ("data", run.provenance))
        if isinstance(record.get("versions"), dict)
    }
    names = sorted({name for found in versions.values() for name in found})
    rows = [[name, *(found.get(name) for found in versions.values())] for name in names]
    columns = ["software", *(f"used for the {where}" for where in versions)]
    listed = table("Versions of what made the run.", columns, rows) if rows else ""
    config = json_text(run.config, indent=2, sort_keys=True)
    parts = [
        listed or missing("No versions were recorded."),
        details("The run's configuration", tag("pre", config)) if run.config else "",
        details("How the data were made", tag("pre", _recipe(run))) if run.provenance else "",
    ]
    return join(part for part in parts if part)


def _recipe(run: RunRecord) -> str:
    """The choices of preprocessing, without the long lists shown elsewhere."""
    names = ("preset", "recipe", "axis", "rebin", "grid", "manifest", "cohort", "seed")
    kept = {name: run.provenance[name] for name in names if name in run.provenance}
    return json_text(kept, indent=2)
