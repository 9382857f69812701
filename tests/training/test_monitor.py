import json

import numpy as np
from PIL import Image

from msi2he_jax.training import monitor


def _lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_lines_events_and_images(tmp_path):
    with monitor.Monitor(tmp_path, 0) as writer:
        writer.write(2, "train", {"reconstruction": 0.5, "discriminator": float("nan")})
        writer.image(2, np.zeros((4, 6, 3), np.uint8))
    expected = {"step": 2, "split": "train", "reconstruction": 0.5, "discriminator": None}
    assert _lines(tmp_path) == [expected]
    assert list((tmp_path / "events").glob("events.*"))
    with Image.open(tmp_path / "images" / "step_00000002.png") as picture:
        assert picture.size == (6, 4)


def test_a_resumed_run_repeats_no_step(tmp_path):
    with monitor.Monitor(tmp_path, 0) as writer:
        for step in (2, 4, 6):
            writer.write(step, "train", {"x": step})
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write("[" * 10_000 + '\n{"step": 8, "spl')  # cut short by a crash
    with monitor.Monitor(tmp_path, 4) as writer:
        writer.write(6, "train", {"x": 60})
    assert [(line["step"], line["x"]) for line in _lines(tmp_path)] == [(2, 2), (4, 4), (6, 60)]


def test_grid_is_one_row_per_example():
    red = np.zeros((2, 4, 5, 3), np.uint8)
    red[..., 0] = 200
    grid = monitor.image_grid(red, red // 2, red)
    assert grid.shape == (2 * (4 + monitor.GAP_PX), 3 * (5 + monitor.GAP_PX), 3)
    assert tuple(grid[0, 5 + monitor.GAP_PX]) == (100, 0, 0)
    assert tuple(grid[4, 0]) == (255, 255, 255)


def test_clock_goes_on_from_earlier_parts():
    clock = monitor.Clock({"train": 5.0})
    seconds = clock.lap("train")
    assert clock.spent_s["train"] == 5.0 + seconds
