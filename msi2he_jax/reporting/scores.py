"""The scores: model beside baselines, with intervals, and the paper's numbers where they belong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msi2he_jax.metrics.paper import PAPER_SOURCE, PAPER_TABLE
from msi2he_jax.reporting import figures
from msi2he_jax.reporting.html import (
    Markup,
    bullets,
    details,
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

Row = tuple[str, Any]
# Name, heading, decimals, whether more is better.
TISSUE = (
    ("ssim_masked", "SSIM", 3, True),
    ("mi_corrected_nats", "corrected MI (nats)", 3, True),
    ("psnr_masked_db", "PSNR (dB)", 2, True),
    ("mae_masked", "MAE", 4, False),
    ("r2_masked", "R²", 3, True),
    ("stain_h_correlation", "haematoxylin r", 3, True),
    ("stain_e_correlation", "eosin r", 3, True),
)
FRAME = (("mi_nats", "MI (nats)", 3, True), ("ssim", "SSIM", 3, True), ("r2", "R²", 3, True))
DRAWN = ("ssim_masked", "mi_corrected_nats")
FEW_GROUPS = 6


def scores_section(run: RunRecord, others: Sequence[RunRecord]) -> Markup:
    """Returns tables, plot and words on the test split's scores."""
    test = run.test()
    if not test:
        how = f"Run: python -m msi2he_jax.evaluate --run={run.path}"
        return missing("The run has not been scored.", how)
    scored = [run, *(each for each in others if each.test())]
    models = [(_label(each, run), each.test()) for each in scored]
    nulls = _baselines(scored)
    unscored = [each.name for each in others if not each.test()]
    parts = [
        _what_was_scored(run, test),
        _other_data(run, scored),
        _verdict(models),
        _tissue_table(models, nulls),
        _plot(models, nulls),
        _frame_table(run, scored, models, nulls),
        paragraph(_background(test)),
        _memorisation(test),
        _alternatives(run, test),
        _per_sample(test),
        _definitions(run),
        missing(f"Not scored: {', '.join(unscored)}.") if unscored else "",
    ]
    return join(part for part in parts if part)


def model_name(run: RunRecord) -> str:
    """Returns what tables call a run: its kind and its folder, since configurations repeat."""
    kind, folder = run.results.get("model"), run.path.resolve().name
    same = kind and kind.replace("-", "").casefold() == folder.replace("-", "").casefold()
    return kind if same else f"{kind} ({folder})" if kind else folder


def _label(run: RunRecord, first: RunRecord) -> str:
    """A run's name with its padding; starred where it was scored on other data than the first."""
    padding = run.results.get("padding")
    star = "" if _data_of(run) == _data_of(first) else " *"
    return f"{model_name(run)}, {padding} padding{star}" if padding else model_name(run) + star


def _data_of(run: RunRecord) -> Any:
    """What a run was scored against; None where an older results.json does not say."""
    return run.test().get("data_sha256")


def _baselines(scored: Sequence[RunRecord]) -> list[Row]:
    """The baselines of each data set that runs were scored on, once."""
    first, rows, seen = scored[0], [], set()
    for run in scored:
        if _data_of(run) not in seen:
            seen.add(_data_of(run))
            star = "" if run is first else f" * (data of {run.path.resolve().name})"
            nulls = run.test().get("null", {})
            rows += [(f"{null_name(name)}{star}", block) for name, block in nulls.items()]
    return rows


def _other_data(run: RunRecord, scored: Sequence[RunRecord]) -> Markup:
    """Warns of runs that were scored on other data than the first."""
    names = [model_name(each) for each in scored if _data_of(each) != _data_of(run)]
    if not names:
        return Markup("")
    return missing(
        f"* Scored on other data than {model_name(run)}: {', '.join(names)}. Scores on different "
        "data do not compare; each stands against the baselines of its own data."
    )


def null_name(name: str) -> str:
    """Returns a baseline's name in words."""
    return name.replace("_", " ")


def best_null(test: dict[str, Any], metric: str) -> tuple[str, float] | None:
    """Returns name and score of the best baseline."""
    found = [
        (null_name(name), score(block, metric)["mean"])
        for name, block in test.get("null", {}).items()
        if score(block, metric)
    ]
    return max(found, key=lambda pair: pair[1]) if found else None


def _what_was_scored(run: RunRecord, test: dict[str, Any]) -> Markup:
    count, groups = test.get("samples"), test.get("groups")
    checkpoint = run.results.get("checkpoint") or {}
    text = "Test split"
    if count and groups:
        text += f": {count} {'section' if count == 1 else 'sections'} of "
        text += f"{groups} {'group' if groups == 1 else 'groups'}"
    if checkpoint:
        text += f"; {checkpoint.get('which')} checkpoint, step {checkpoint.get('step')}"
    if run.results.get("norm_at_test"):
        text += f"; normalised with {run.results['norm_at_test']} statistics"
    few = isinstance(groups, int) and 1 < groups < FEW_GROUPS
    caveat = (
        f" With {groups} groups the intervals are too narrow: take them as a hint." if few else ""
    )
    return paragraph(f"{text}.{caveat}")


def _verdict(models: Sequence[Row]) -> Markup:
    """Says in words whether each model beats the best baseline, and whether the interval does."""
    sentences = []
    for metric, label in (("ssim_masked", "SSIM"), ("mi_corrected_nats", "corrected MI")):
        for name, block in models:
            best, found = best_null(block, metric), score(block, metric)
            if best and found:
                sentences.append(_comparison(name, f"{label} in the tissue", found, best))
    return bullets(sentences) if sentences else Markup("")


def _comparison(name: str, label: str, found: dict, best: tuple[str, float]) -> str:
    ahead = found["mean"] > best[1]
    verb = "is above" if ahead else "is not above"
    if found["low"] is None:
        caveat = "; one group gives no interval, so this may be chance"
    else:
        sure = found["low"] > best[1] if ahead else found["high"] < best[1]
        caveat = "" if sure else "; the interval includes the baseline, so this may be chance"
    return (
        f"{name}: {label} {found['mean']:.3f} {verb} the best baseline "
        f"({best[0]}, {best[1]:.3f}){caveat}."
    )


def _tissue_table(models: Sequence[Row], nulls: Sequence[Row]) -> Markup:
    caption = f"Inside the tissue: what counts. {_what_stands_there(models)}"
    columns = ["method", *(label for _, label, _, _ in TISSUE)]
    rows = [[name, *_cells(block, TISSUE)] for name, block in (*models, *nulls)]
    note = "MAE: lower is better; all others: higher. r: correlation of stain densities."
    return table(caption, columns, rows, strong=range(len(models)), footer=note)


def _what_stands_there(models: Sequence[Row]) -> str:
    found = [score(block, "ssim_masked") for _, block in models]
    if any(each and each["low"] is not None for each in found):
        return "Mean and 95 % interval over groups."
    return "Mean; with one group there is no interval."


def _frame_table(
    run: RunRecord, scored: Sequence[RunRecord], models: Sequence[Row], nulls: Sequence[Row]
) -> Markup:
    """The paper's Table 1: a run stands in a row of it only where its recipe is that row's."""
    comparable = bool(run.results.get("comparable_with_paper"))
    heading = "paper" if comparable else "paper, not comparable"
    columns = ["method", *(label for _, label, _, _ in FRAME)]
    columns += [f"MI ({heading})", f"SSIM ({heading})"]
    numbers = {row["prediction"]: [number(row["mi"]), number(row["ssim"])] for row in PAPER_TABLE}
    places = [each.results.get("paper_row") for each in scored]
    rows = [
        [_placed(name, place), *_cells(block, FRAME), *numbers.get(place, [None, None])]
        for (name, block), place in zip(models, places, strict=True)
    ]
    rows += [[name, *_cells(block, FRAME), None, None] for name, block in nulls]
    rows += [
        [f"paper's {name}", None, None, *pair]
        for name, pair in numbers.items()
        if name not in places
    ]
    caption = "The whole frame, background included: the layout of the paper's Table 1."
    note = f"Paper: {PAPER_SOURCE}. The paper does not state its MI's bins, unit or mask."
    if not comparable:
        note = f"{run.results.get('words', 'Other data than the papers')}. {note}"
    return table(caption, columns, rows, strong=range(len(models)), footer=note)


def _placed(name: str, place: str | None) -> str:
    return f"{name}: the paper's {place}" if place else name


def _cells(block: Any, metrics: Sequence[tuple]) -> list[Markup | None]:
    return [_cell(score(block, name), digits) for name, _, digits, _ in metrics]


def _cell(found: dict | None, digits: int) -> Markup | None:
    if found is None:
        return None
    mean = Markup(number(found["mean"], digits))
    if found["low"] is None:
        return mean
    low, high = number(found["low"], digits), number(found["high"], digits)
    return join([mean, tag("small", f"{low} to {high}")], " ")


def _plot(models: Sequence[Row], nulls: Sequence[Row]) -> Markup:
    labels = {name: label for name, label, _, _ in TISSUE}
    panels = {}
    for metric in DRAWN:
        rows = [(name, score(block, metric)) for name, block in (*models, *nulls)]
        rows = [(name, s["mean"], *_ends(s)) for name, s in rows if s]
        if rows:
            panels[f"{labels[metric]} in the tissue"] = rows
    if not panels:
        return Markup("")
    names = [name for name, _ in models]
    draw: Callable = lambda look: figures.intervals(panels, look, first=names)  # noqa: E731
    alt = "Means and 95 % intervals of models and baselines; the numbers are in the table above."
    caption = "Models (diamonds) and baselines (dots): mean and 95 % interval over groups."
    return figure(plot(draw, alt), caption)


def _ends(found: dict[str, Any]) -> tuple[float, float]:
    """The ends of what is drawn; a point where there is no interval."""
    if found["low"] is None:
        return found["mean"], found["mean"]
    return found["low"], found["high"]


def _background(test: dict[str, Any]) -> str:
    """Says how much of the whole-frame SSIM an empty slide has already."""
    if test.get("words"):
        return test["words"]
    empty = score(test.get("null", {}).get("empty_slide"), "ssim")
    model = score(test, "ssim")
    if not empty or not model:
        return "No empty-slide baseline: how much of the whole-frame SSIM is background is unknown."
    return (
        f"A slide without any tissue scores SSIM {empty['mean']:.3f} on these frames, the model "
        f"{model['mean']:.3f}: most of a whole-frame SSIM is background."
    )


def _memorisation(test: dict[str, Any]) -> Markup:
    block = test.get("memorisation")
    fake, real = (score(block, f"{kind}_to_training_rms") for kind in ("fake", "real"))
    if not fake or not real:
        return Markup("")
    near = fake["mean"] < 0.5 * real["mean"]
    words = "much nearer: it may be repeating what it saw" if near else "no sign of repetition"
    return paragraph(
        f"Memorisation check: synthetic images lie {fake['mean']:.3f} (root mean square, full "
        f"range 1) from the nearest training image, real test images {real['mean']:.3f}: {words}."
    )


def _alternatives(run: RunRecord, test: dict[str, Any]) -> Markup:
    found = test.get("alternatives") or {}
    if not found:
        return Markup("")
    rows = [[f"as above ({run.results.get('norm_at_test', 'default')})", *_both(test)]]
    rows += [[name, *_both(block)] for name, block in found.items()]
    columns = ["at test time", *(label for _, label, _, _ in TISSUE[:2]), "SSIM, frame"]
    return table("The same checkpoint, used otherwise.", columns, rows)


def _both(block: Any) -> list[Markup | None]:
    return [*_cells(block, TISSUE[:2]), *_cells(block, FRAME[1:2])]


def _per_sample(test: dict[str, Any]) -> Markup:
    samples = test.get("per_sample", [])
    if not samples:
        return Markup("")
    metrics = [*TISSUE, *FRAME, ("tissue_fraction", "tissue fraction", 3, True)]
    shown = [metric for metric in metrics if metric[0] in samples[0]]
    columns = ["sample", "group", *(_long_label(metric) for metric in shown)]
    rows = [
        [s["sample_id"], s["group_id"], *(number(s.get(m[0]), m[2]) for m in shown)]
        for s in samples
    ]
    return details("Every sample", table("Scores of each test sample.", columns, rows))


def _long_label(metric: tuple) -> str:
    return f"{metric[1]}, frame" if metric in FRAME else metric[1]


def _definitions(run: RunRecord) -> Markup:
    found = run.results.get("definitions")
    if not found:
        return Markup("")
    lines = (f"{name}: {text}" for name, text in found.items())
    return details("How each score is defined", bullets(lines))
