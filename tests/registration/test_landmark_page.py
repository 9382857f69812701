"""The landmark page in a real browser, driven by the events of a hand."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from msi2he_jax.registration import transforms
from msi2he_jax.registration.control_points import estimate_affine, leave_one_out_errors
from msi2he_jax.registration.landmark_page import picture, write_landmark_page
from msi2he_jax.registration.landmarks import Landmarks, read_landmarks

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium on this machine: the page was not opened in a browser"
)
MSI_UM, SLIDE_UM, ORIGIN = (60.0, 50.0), 12.5, (300.0, 100.0)
MATRIX = transforms.rotation(15, center_from=(1200, 1000), center_to=(1300, 1400))
MSI = np.array([[500, 400], [1800, 600], [1100, 1500], [2000, 1700], [900, 900], [1500, 1200.0]])
SLIDE = transforms.apply_affine(MATRIX, MSI) + np.random.default_rng(0).normal(0, 20, MSI.shape)

# Runs once both pictures are there; what it learns is written into the page, which is then dumped.
HAND = """
<script>
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
function press(canvas, at, type) {
  const box = canvas.getBoundingClientRect();
  const place = { clientX: box.left + at[0], clientY: box.top + at[1] };
  canvas.dispatchEvent(new PointerEvent(type, { ...place, pointerId: 1, bubbles: true }));
}
function click(side, um) {
  const at = views[side].fromUm(um);
  press(views[side].canvas, at, "pointerdown");
  press(views[side].canvas, at, "pointerup");
}
function drag(side, from, to) {
  press(views[side].canvas, from, "pointerdown");
  press(views[side].canvas, [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2], "pointermove");
  press(views[side].canvas, to, "pointermove");
  press(views[side].canvas, to, "pointerup");
}
async function saved() {
  let blob = null;
  const before = URL.createObjectURL;
  URL.createObjectURL = (each) => { blob = each; return "#"; };
  HTMLAnchorElement.prototype.click = function () { learned.download = this.download; };
  document.getElementById("save").onclick();
  URL.createObjectURL = before;
  return await blob.text();
}
const learned = {};
const told = () => document.getElementById("says").textContent;
const table = () => [...document.querySelectorAll("#rows tr")].map((row) =>
  [...row.cells].map((cell) => cell.firstChild.value ?? cell.textContent));
(async () => {
  try {
    while (!views.msi.shift || !views.histology.shift) await sleep(20);
    __STEPS__
  } catch (error) { learned.error = String(error.stack); }
  const out = document.createElement("pre");
  out.id = "learned";
  out.textContent = JSON.stringify(learned);
  document.body.append(out);
})();
</script>
"""


def _page(path, points=None):
    rng = np.random.default_rng(1)
    msi = picture(rng.integers(0, 255, (40, 44, 3), np.uint8), MSI_UM, ORIGIN, lossless=True)
    slide = rng.integers(0, 255, (240, 260, 3), np.uint8)
    slide = picture(slide, SLIDE_UM, (0.0, 0.0), lossless=False)
    write_landmark_page(path, "p01 </script><b>", msi, slide, points)
    return path


def _learn(tmp_path, steps, points=None):
    page = _page(tmp_path / "page.html", points)
    page.write_text(page.read_text() + HAND.replace("__STEPS__", steps))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000"]
    flags += ["--dump-dom", "--enable-logging=stderr", "--window-size=1200,900"]
    shown = subprocess.run(
        [BROWSER, *flags, page.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert not re.search(r"CONSOLE.*(Uncaught|ERR_)", shown.stderr), shown.stderr
    found = re.search(r'<pre id="learned">(.*?)</pre>', shown.stdout, re.S)
    learned = json.loads(html.unescape(found[1]))
    assert "error" not in learned, learned["error"]
    return learned


def _clicks(order=("msi", "histology")):
    pairs = {"msi": MSI, "histology": SLIDE}
    return "".join(
        f"click('{side}', {pairs[side][i, ::-1].tolist()});"
        for i in range(len(MSI))
        for side in order
    )


def test_the_page_needs_nothing_else(tmp_path):
    text = _page(tmp_path / "page.html").read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//|@import|\bfetch\(|url\(", text)
    assert "p01 \\u003c/script>" in text and "__DATA__" not in text


@needs_browser
def test_pairs_are_clicked_and_saved(tmp_path):
    steps = (
        _clicks()
        + """
    const use = document.querySelectorAll("#rows select")[5];
    use.value = "eval"; use.onchange();
    learned.told = told(); learned.table = table(); learned.csv = await saved();
    document.querySelector("footer").style.height = "55vh";
    for (const side of ["msi", "histology"]) press(views[side].canvas, [1, 1], "pointerdown");
    learned.sizes = Object.values(views).flatMap((view) => {
      const box = view.canvas.getBoundingClientRect();
      return [view.canvas.width - box.width, view.canvas.height - box.height];
    });
    """
    )
    learned = _learn(tmp_path, steps)
    assert learned["download"] == "landmarks.csv"
    (tmp_path / "l.csv").write_text(learned["csv"])
    points = read_landmarks(tmp_path / "l.csv")
    np.testing.assert_allclose(points.msi_yx_um, MSI, atol=1e-2)
    np.testing.assert_allclose(points.histology_yx_um, SLIDE, atol=1e-2)
    assert list(points.use) == ["fit"] * 5 + ["eval"]
    matrix = estimate_affine(MSI[:5], SLIDE[:5])
    errors = np.linalg.norm(transforms.apply_affine(matrix, MSI) - SLIDE, axis=1)
    shown = np.array([float(row[4]) for row in learned["table"]])
    np.testing.assert_allclose(shown, errors, atol=0.06)
    left_out = leave_one_out_errors(MSI[:5], SLIDE[:5])
    shown = np.array([float(row[5]) for row in learned["table"][:5]])
    np.testing.assert_allclose(shown, left_out, atol=0.06)
    assert learned["table"][5][5] == ""
    assert np.abs(learned["sizes"]).max() <= 3, "a stretched canvas marks places wrongly"
    rms = np.sqrt(np.mean(errors[:5] ** 2))
    assert f"5 pairs to fit, 1 to evaluate. Residual {rms:.1f} um" in learned["told"]
    assert f"median {np.median(left_out):.1f} um" in learned["told"]


@needs_browser
def test_views_zoom_pan_turn_and_mirror_without_moving_points(tmp_path):
    """Marked under any view, a place is the same place; a point can be dragged, and undone."""
    steps = (
        """
    const view = views.histology, canvas = view.canvas;
    const box = canvas.getBoundingClientRect();  // a wheel's place is in whole pixels
    const wheel = { deltaY: -900, clientX: 300 + Math.ceil(box.left), cancelable: true };
    wheel.clientY = 150 + Math.ceil(box.top);
    const over = [wheel.clientX - box.left, wheel.clientY - box.top];
    const under = view.toUm(over), before = view.zoom;
    canvas.dispatchEvent(new WheelEvent("wheel", wheel));
    learned.stays = Math.hypot(...view.toUm(over).map((v, k) => v - under[k]));
    learned.zoom = view.zoom / before;
    const held = view.toUm([200, 150]);
    drag("histology", [200, 150], [260, 110]);
    learned.panned = Math.hypot(...view.toUm([260, 110]).map((v, k) => v - held[k]));
    learned.none = points.length;
    for (const [what, side] of [["turn", "msi"], ["mirror", "msi"], ["turn", "histology"],
        ["mirror", "histology"], ["turn", "histology"]])
      document.querySelector(`[data-view=${side}][data-do=${what}]`).click();
    """
        + _clicks(("histology", "msi"))
        + """
    const at = views.msi.fromUm(points[0].msi);
    drag("msi", at, [at[0] + 30, at[1] + 20]);
    const was = JSON.parse(past.at(-1))[0].msi;
    learned.dragged = Math.hypot(...points[0].msi.map((v, k) => v - was[k]));
    document.dispatchEvent(new KeyboardEvent("keydown", { key: "z", ctrlKey: true }));
    learned.csv = await saved();
    for (let i = 0; i < 3; i++) document.getElementById("undo").click();
    learned.rows = table();
    """
    )
    learned = _learn(tmp_path, steps)
    assert learned["stays"] < 1e-6 and learned["panned"] < 1e-6 and learned["none"] == 0
    assert learned["zoom"] > 3
    assert learned["dragged"] > 50
    (tmp_path / "l.csv").write_text(learned["csv"])
    points = read_landmarks(tmp_path / "l.csv")
    np.testing.assert_allclose(points.msi_yx_um, MSI, atol=1e-2)
    np.testing.assert_allclose(points.histology_yx_um, SLIDE, atol=1e-2)
    assert len(learned["rows"]) == 5 and learned["rows"][4][2] == "click"


@needs_browser
def test_a_file_is_opened_and_doubts_are_told(tmp_path):
    names = np.array(['a "b", c', "two", "three", "four", "five", "six"])
    use = np.array(["fit", "fit", "fit", "eval", "eval", "eval"])
    points = Landmarks(names, use, MSI, SLIDE)
    steps = """
    learned.first = told(); learned.csv = await saved();
    load(learned.csv); learned.again = await saved();
    load("x,y\\n1,2\\n"); learned.refused = told();
    points[2].msi = points[0].msi.map((v, k) => (v + points[1].msi[k]) / 2);
    refresh(); learned.line = told();
    for (const p of points) p.msi = p.msi && p.msi.map((v) => v / 50);
    points[2].msi = [3, 90]; refresh(); learned.units = told();
    points.length = 2; refresh(); learned.few = told();
    """
    learned = _learn(tmp_path, steps, points)
    assert learned["first"].startswith("3 pairs to fit, 3 to evaluate. Residual 0.0 um")
    assert learned["again"] == learned["csv"]
    (tmp_path / "l.csv").write_text(learned["csv"])
    assert list(read_landmarks(tmp_path / "l.csv").name) == list(names)
    assert "no landmarks.csv" in learned["refused"]
    assert "They lie on one line" in learned["line"]
    assert "times as large: check the pairs" in learned["units"]
    assert "at least 3" in learned["few"]
