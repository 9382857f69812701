"""How training went: curves and clock."""

from __future__ import annotations

import statistics

from msi2he_jax.reporting import figures
from msi2he_jax.reporting.html import (
    Markup,
    facts,
    figure,
    join,
    missing,
    number,
    paragraph,
    plot,
)
from msi2he_jax.reporting.records import RunRecord

LABELS = {
    "reconstruction": "reconstruction loss",
    "adversarial": "adversarial loss (generator)",
    "discriminator": "discriminator loss",
    "ssim": "SSIM, validation",
    "mae": "MAE, validation",
    "mi_corrected_nats": "corrected MI (nats), validation",
}
_VALIDATION = ("ssim", "ssim_masked", "mae", "mae_masked", "mi_corrected_nats")
_NO_CURVE = ("images_per_s", "skipped")


def curves_section(run: RunRecord) -> Markup:
    """Returns the learning curves and what they end at."""
    panels = _panels(run)
    if not panels:
        return missing("There is no metrics.jsonl with a training or validation line.")
    series = ", ".join(panels)
    alt = f"Learning curves over training steps: {series}."
    caption = "Means of each compiled call (training) and of the validation split."
    drawn = figure(plot(lambda look: figures.learning_curves(panels, look), alt), caption)
    return join([_words(run), drawn])


def _panels(run: RunRecord) -> dict[str, dict[str, tuple[list, list]]]:
    panels: dict[str, dict[str, tuple[list, list]]] = {}
    for name in run.names("train"):
        curve = run.curve("train", name)
        if name not in _NO_CURVE and curve[0]:
            panels[LABELS.get(name, name)] = {"training": curve}
    for name in run.names("validation"):
        base = name.removesuffix("_masked")
        curve = run.curve("validation", name)
        if curve[0] and name in (*_VALIDATION, _best_metric(run)):
            kind = "in the tissue" if name.endswith("_masked") else "validation"
            title = LABELS.get(base, f"{base}, validation")
            panels.setdefault(title, {})[kind] = curve
    return panels


def _best_metric(run: RunRecord) -> str:
    return run.config.get("train", {}).get("best_metric", "ssim_masked")


def _words(run: RunRecord) -> Markup:
    steps = max((line["step"] for line in run.metrics), default=0)
    asked = run.config.get("train", {}).get("steps")
    text = f"{steps} steps" + (f" of {asked}" if asked and asked != steps else "") + " were taken"
    name = _best_metric(run)
    at, values = run.curve("validation", name)
    if values:
        pick = min if name.startswith("mae") else max
        best = pick(range(len(values)), key=values.__getitem__)
        text += f"; the best validation {name} was {values[best]:.4f}, at step {at[best]}"
    skipped = sum(run.curve("train", "skipped")[1])
    text += "." if not skipped else "; steps with a loss that was not finite were skipped."
    return paragraph(text)


def timings_section(run: RunRecord) -> Markup:
    """Returns seconds of compiling and of training steps, and images per second."""
    pairs = _timings(run)
    if not pairs:
        return missing("No timing was logged.")
    note = "Measured on the machine that trained this run, as logged in metrics.jsonl."
    return join([facts(pairs), paragraph(note, class_="note")])


def _timings(run: RunRecord) -> list[tuple[str, str]]:
    compile_s = run.curve("compile", "compile_s")[1]
    rates = run.curve("train", "images_per_s")[1]
    pairs = []
    if compile_s:
        pairs.append(("compiling", f"{sum(compile_s):.1f} s in {len(compile_s)} call(s)"))
    if rates:
        pairs.append(("training, median", f"{number(statistics.median(rates), 1)} images/s"))
        pairs.append(("training, slowest and fastest call", f"{min(rates):.1f}, {max(rates):.1f}"))
        seconds = _train_seconds(run)
        if seconds:
            pairs.append(("time in training steps", f"{seconds:.0f} s"))
    return pairs


def _train_seconds(run: RunRecord) -> float | None:
    """Steps times batch over images per second, call by call."""
    batch = run.config.get("train", {}).get("batch_size")
    steps, rates = run.curve("train", "images_per_s")
    if not batch or any(rate <= 0 for rate in rates):
        return None
    before = [0, *steps[:-1]]
    return sum((s - b) * batch / rate for s, b, rate in zip(steps, before, rates))
