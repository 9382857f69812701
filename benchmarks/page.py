"""The benchmark report as one HTML page: plots, all tables, the machines, what is missing."""

from __future__ import annotations

import html

from benchmarks.plots import chart

_STYLE = """body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{border-bottom:1px solid #ddd;padding:.2em .8em}
td{text-align:right}td:first-child,th:first-child{text-align:left}small{color:#666}"""
_COLUMNS = {
    "name": "variant",
    "items_per_s": "per s",
    "median_s": "median s",
    "low_s": "least s",
    "high_s": "most s",
    "compile_s": "compile s",
    "ratio": "times as slow as the first",
    "mfu": "of the matrix product",
    "planned_gib": "planned GiB",
}


def page(records: list[dict]) -> str:
    """Returns the page over all benchmark records."""
    parts = ["<h1>Benchmarks</h1><p>Figures count only against the others of their own run."]
    parts += [_record(record) for record in records]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Benchmarks</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def _record(record: dict) -> str:
    machine = record["environment"]
    versions = ", ".join(f"{name} {found}" for name, found in machine["versions"].items() if found)
    speeds = [f"{machine['gemm_gflops']:,.0f} GFLOP/s f32 matrix product"]
    if "gemm_bfloat16_gflops" in machine:
        speeds += [f"{machine['gemm_bfloat16_gflops']:,.0f} GFLOP/s in bf16"]
    speeds += [f"{machine['copy_gb_per_s']:.1f} GB/s copy"]
    words = f"{machine['device']} ({machine['backend']}), {machine['cores']} cores, "
    words += f"driver {machine['driver']}, " if machine.get("driver") else ""
    words += f"{', '.join(speeds)}; revision {machine['revision']}, {machine['date']}; {versions}"
    parts = [f"<h2>{html.escape(record['benchmark'])}</h2><small>{html.escape(words)}</small>"]
    parts += [f"<h3>{html.escape(t)}</h3>{_table(x)}" for t, x in record["tables"].items()]
    if record.get("memory"):
        parts.append(_memory(record))
    parts += [
        f"<p>Missing: {html.escape(title)} ({html.escape(why)})"
        for title, why in record.get("missing", {}).items()
    ]
    return "".join([*parts, *_plots(record)])


def _table(table: dict) -> str:
    names = [name for name in _COLUMNS if any(name in row for row in table["rows"])]
    head = "".join(f"<th>{_COLUMNS[name]}</th>" for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(name))}</td>" for name in names) + "</tr>"
        for row in table["rows"]
    )
    unit = html.escape(table["unit"])
    return f"<table><tr>{head}</tr>{rows}</table><small>per s: {unit}</small>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else html.escape(str(value))


def _memory(record: dict) -> str:
    names = ("remat", "side_px", "batch", "kept_gib", "asked_gflop", "planned_gib", "compile_s")
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(name))}</td>" for name in names) + "</tr>"
        for row in record["memory"]
    )
    titles = (
        "computed again",
        "px",
        "batch",
        "gradients keep, GiB",
        "GFLOP asked for",
        "planned, GiB",
        "compile s",
    )
    head = "<tr>" + "".join(f"<th>{title}</th>" for title in titles) + "</tr>"
    what = f"{record['dtype']}, {record['features']} features; planned as the compiler says"
    return f"<h3>Memory of a training step ({what})</h3><table>{head}{rows}</table>"


def _plots(record: dict) -> list[str]:
    """Draws what the rows of a training-step record give: over batch and devices, and roofline."""
    rows = [row for table in record["tables"].values() for row in table["rows"]]
    timed = [row for row in rows if "gflop" in row]
    single = [row for row in timed if row.get("devices", 1) == 1 and "devices" not in row["name"]]
    shared = [row for row in timed if "devices" in row["name"]]
    speed = _series(single, "batch", "items_per_s")
    share = _series(single, "batch", "mfu")
    devices = _series(shared, "devices", "items_per_s", lambda row: row["name"].split(",")[0])
    drawn = [
        chart("Training throughput", "batch", "images/s", speed),
        chart("Share of the matrix product's speed", "batch", "share", share, log=False),
        chart("A batch shared by devices", "devices", "images/s", devices, log=False),
        _roofline(record["environment"], single),
    ]
    return [f"<p>{svg}" for svg in drawn if svg]


def _series(rows: list[dict], x: str, y: str, name=lambda row: f"{row['name']}, {row['side_px']}"):
    series: dict[str, list] = {}
    for row in rows:
        if x in row and y in row:
            series.setdefault(name(row), []).append((row[x], row[y]))
    return {name: sorted(points) for name, points in series.items()}


def _roofline(machine: dict, rows: list[dict]) -> str:
    """Speed over work per byte, with the two limits measured in the same run."""
    points = {}
    for row in rows:
        if row.get("xla_gbyte"):
            steps = row.get("steps_per_call", 1)
            images = row["batch"] * (1 if steps > 1 else steps)  # a loop's body is counted once
            intensity = row["gflop"] * images / row["xla_gbyte"]
            points[f"{row['name']}, {row['side_px']} px, batch {row['batch']}"] = [
                (intensity, row["gflop_per_s"])
            ]
    if not points:
        return ""
    wide = all(row["dtype"] != "bfloat16" for row in rows)
    peak = machine["gemm_gflops" if wide else "gemm_bfloat16_gflops"]
    ridge = peak / machine["copy_gb_per_s"]
    limit = [(ridge / 16, peak / 16), (ridge, peak), (max(ridge * 16, 1000.0), peak)]
    name = "limit: copy, matrix product"
    return chart("Roofline", "FLOP per byte", "GFLOP/s", {name: limit, **points})
