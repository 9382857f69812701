"""Writes one self-contained HTML page of a run: data, pictures, scores, curves, registration.

    python -m msi2he_jax.report --run=RUN --out=FILE.html [--compare=RUN2,...] [--registration=DIR]

The page needs no other file and no network. What a run does not hold yet is said on the page, not
an error.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from msi2he_jax import cli, progress
from msi2he_jax.errors import InputError

FLAGS = cli.new_flags()
flags.DEFINE_string("run", None, "Folder of the run.", flag_values=FLAGS)
flags.DEFINE_list("compare", [], "Folders of other runs, for the tables.", flag_values=FLAGS)
flags.DEFINE_string("registration", None, "Folder that register wrote.", flag_values=FLAGS)
flags.DEFINE_string(
    "data", None, "Folder of the data set; default: the one it was trained on.", flag_values=FLAGS
)
flags.DEFINE_string("out", None, "HTML file to write; default: RUN/report.html.", flag_values=FLAGS)
flags.DEFINE_integer("samples", 4, "Test samples to show; 0 for none.", flag_values=FLAGS)
flags.DEFINE_enum(
    "which", "best", ["best", "latest"], "Checkpoint for the pictures.", flag_values=FLAGS
)


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Reads what is there and writes the page."""
    cli.no_positional(args)
    cli.require(values, "run")
    cli.require_range(values, "samples", 0, 24)
    out = Path(values.out or Path(values.run) / "report.html")
    if out.is_dir():
        raise InputError(out, "--out", "is a folder, a file was expected")
    from msi2he_jax import locking

    with locking.held(out, "report"):
        _write_page(values, out)
    print(out)


def _write_page(values: flags.FlagValues, out: Path) -> None:
    from msi2he_jax.data.provenance import warnings_of
    from msi2he_jax.io_safety import atomic_file
    from msi2he_jax.reporting.page import report_page
    from msi2he_jax.reporting.records import read_registration, read_run

    record = read_run(values.run)
    cli.warn(warnings_of(record.provenance))
    others = [read_run(folder) for folder in values.compare]
    registration = read_registration(values.registration) if values.registration else None
    panels, why = _panels(values, record, others)
    page = report_page(
        record, others=others, registration=registration, panels=panels, why_no_panels=why
    )
    with atomic_file(out) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _panels(values: flags.FlagValues, record, others) -> tuple[list, str]:
    """Returns the test samples to show, or none and why."""
    from msi2he_jax.data.provenance import read_provenance
    from msi2he_jax.io_safety import existing_folder

    if not values.samples:
        return [], "None were asked for."
    data = values.data or record.config.get("data", {}).get("dir")
    if not data:
        return [], "The run does not say what data it was trained on."
    if values.data:
        # What is asked for by name must be there; the run's own data may have been moved.
        read_provenance(existing_folder(values.data, "--data"))
    try:
        return _make_panels(values, record, others, data), ""
    except InputError as error:
        cli.warn([f"no pictures: {error}"])
        return [], f"They could not be made: {error}"


def _make_panels(values: flags.FlagValues, record, others, data: str) -> list:
    from msi2he_jax.data.loader import load_arrays
    from msi2he_jax.inference import load_model
    from msi2he_jax.reporting.scores import model_name

    models = {}
    for each in (record, *others):
        name = model_name(each)
        name = f"{name}, {each.path}" if name in models else name
        models[name] = load_model(each.path, values.which)
        cli.warn(models[name].warnings)
    arrays = load_arrays(data, "test")
    scores = {s.get("sample_id"): s for s in record.test().get("per_sample", [])}
    chosen = choose(list(arrays.sample_ids), scores, values.samples)
    panels = []
    for done, index in enumerate(chosen):
        progress.tell("sample", done, len(chosen), arrays.sample_ids[index])
        panels.append(_panel(models, arrays, index, scores))
    return panels


def choose(sample_ids: list[str], scores: dict, count: int) -> list[int]:
    """Returns positions of `count` samples, from the best to the worst score in even steps.

    Showing the first few would show whatever the alphabet put first; the best few would flatter.
    """
    known = [i for i, name in enumerate(sample_ids) if "ssim_masked" in scores.get(name, {})]
    if len(known) < len(sample_ids):
        return list(range(min(count, len(sample_ids))))
    order = sorted(known, key=lambda i: -(scores[sample_ids[i]]["ssim_masked"] or 0.0))
    count = min(count, len(order))
    steps = [round(k * (len(order) - 1) / max(1, count - 1)) for k in range(count)]
    return [order[step] for step in steps]


def _panel(models: dict, arrays, index: int, scores: dict):
    from msi2he_jax.reporting.panels import Panel

    rows, columns = (int(side) for side in arrays.extent_px[index])
    part = (slice(rows), slice(columns))
    sample_id = arrays.sample_ids[index]
    msi = arrays.msi[index : index + 1]
    return Panel(
        sample_id=sample_id,
        group_id=arrays.group_ids[index],
        view=arrays.view[index][part],
        fakes={name: _painted(model, msi)[part] for name, model in models.items()},
        real=arrays.histology[index][part],
        valid_mask=arrays.valid_mask[index][part],
        um_per_px=float(arrays.um_per_px[index]),
        scores=scores.get(sample_id, {}),
    )


def _painted(model, msi):
    """Synthesises one image, `[1, H, W, K]` -> uint8 `[H, W, 3]`."""
    from msi2he_jax.inference import to_uint8

    return to_uint8(model.apply(msi)[0])


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
