"""The landmark page in a real browser, driven by the events of a hand."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from msi2he_jax.registration import transforms
from msi2he_jax.registration.control_points import estimate_affine, leave_one_out_errors
from msi2he_jax.registration.landmark_page import picture, policy, write_landmark_page
from msi2he_jax.registration.landmarks import Landmarks, read_landmarks
from msi2he_jax.tables import write_table

SAMPLE = "p01 </script><b>"
NODE = shutil.which("node")
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
function copied(image) {
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [image.width, image.height];
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context;
}
async function chosen(act) {
  const before = views.msi.original;
  act();
  while (views.msi.original === before) await sleep(20);
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
    size = {"um_per_px": MSI_UM, "origin_um": ORIGIN, "lossless": True}
    visible = np.ones((40, 44), bool)
    visible[0, 0] = False
    grey = np.full((40, 44, 3), 40, np.uint8)
    view = rng.integers(0, 255, (40, 44, 3), np.uint8)
    msi = {"PCA view": picture(view, **size, visible=visible)}
    msi["m/z 703.6"] = picture(grey, **size, visible=visible)
    slide = rng.integers(0, 255, (240, 260, 3), np.uint8)
    slide = picture(slide, SLIDE_UM, (0.0, 0.0), lossless=False)
    write_landmark_page(path, SAMPLE, msi, slide, points)
    return path


def _open(page):
    """Opens a page in the browser; whatever its console complains of is a failure."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    flags += ["--disable-component-update", "--no-first-run", "--virtual-time-budget=20000"]
    flags += [f"--user-data-dir={page.parent / 'profile'}", "--window-size=1200,900"]
    flags += ["--dump-dom", "--enable-logging=stderr"]
    shown = subprocess.run(
        [BROWSER, *flags, page.as_uri()], capture_output=True, text=True, timeout=120
    )
    said = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    assert not said, "\n".join(said)
    return shown.stdout


def _learn(tmp_path, steps, points=None):
    page = _page(tmp_path / "page.html", points)
    shown = page.read_text()
    driven = shown + HAND.replace("__STEPS__", steps)
    page.write_text(driven.replace(policy(shown), policy(driven)))
    found = re.search(r'<pre id="learned">(.*?)</pre>', _open(page), re.S)
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


def test_the_page_runs_its_own_script_alone(tmp_path):
    text = _page(tmp_path / "page.html").read_text()
    found = re.search('<meta http-equiv="Content-Security-Policy" content="(.*?)">', text)[1]
    assert found.startswith("default-src 'none'; ") and "__POLICY__" not in text
    (script,) = re.findall("<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert found.endswith(f"; script-src 'sha256-{digest}'")
    assert not re.search(r"<[^>]* on[a-z]+=", text)  # Which the policy would forbid.


@pytest.mark.skipif(NODE is None, reason="no node on this machine: its script was not run")
def test_names_that_a_spreadsheet_would_run_are_saved_as_text_and_opened(tmp_path):
    text = _page(tmp_path / "page.html").read_text()
    wanted = ("const FORMULA", "const marked", "const unmarked", "const quoted")
    lines = [line for line in text.splitlines() if line.startswith(wanted)]
    cells = re.search(r"function cells\(line\) \{.*?\n\}", text, re.S)[0]
    names = ["=1+1", "-2*3", "@x", "-1.5", "p, q", "'=2", '+a,"b"', "plain", "'tis"]
    program = (
        "\n".join([*lines, cells])
        + f"""
    const saved = {json.dumps(names)}.map(quoted);
    console.log(JSON.stringify([saved, cells(saved.join(",")).map(unmarked)]));"""
    )
    done = subprocess.run([NODE, "-e", program], capture_output=True, text=True, check=True)
    saved, opened = json.loads(done.stdout)
    assert opened == names
    write_table(tmp_path / "a.csv", names, [])
    assert (tmp_path / "a.csv").read_text() == ",".join(saved) + "\n"


@needs_browser
def test_a_script_that_the_policy_does_not_name_fails_these_tests(tmp_path):
    page = _page(tmp_path / "page.html")
    _open(page)
    page.write_text(page.read_text() + "<script>document.title = 'run';</script>")
    with pytest.raises(AssertionError, match="Content Security Policy"):
        _open(page)


@needs_browser
def test_the_picture_of_the_msi_is_chosen_and_its_contrast(tmp_path):
    """Another picture, brighter, lies on the same pixels; what was not measured stays clear."""
    steps = """
    const shown = () => {
      const copy = copied(views.msi.image);
      return [[0, 0], [5, 5]].map(([x, y]) => [...copy.getImageData(x, y, 1, 1).data]);
    };
    const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
    const choice = document.getElementById("choice"), slider = document.getElementById("contrast");
    learned.names = [...choice.options].map((each) => each.textContent);
    // The canvas may be laid out anew meanwhile: what is in its middle stays there.
    const { canvas } = views.msi, centre = () => [canvas.width / 2, canvas.height / 2];
    const look = () => [...views.msi.toPixel(centre()), views.msi.zoom], before = look();
    await chosen(() => { choice.selectedIndex = 1; choice.onchange(); });
    learned.grey = shown(); learned.kept = look().map((v, k) => v - before[k]);
    slider.value = 1; slider.oninput();
    learned.bright = shown();
    await chosen(() => press("n")); learned.next = choice.selectedIndex;
    await chosen(() => press("p")); learned.back = [choice.selectedIndex, shown()];
    press("?"); learned.help = document.getElementById("keys").open;
    """
    learned = _learn(tmp_path, steps)
    assert learned["names"] == ["PCA view", "m/z 703.6"]
    np.testing.assert_allclose(learned["kept"], 0, atol=1e-9)
    assert learned["grey"] == [[0, 0, 0, 0], [40, 40, 40, 255]]
    assert learned["bright"] == [[0, 0, 0, 0], [101, 101, 101, 255]]
    assert learned["next"] == 0 and learned["back"] == [1, learned["bright"]] and learned["help"]


@needs_browser
def test_the_msi_is_laid_on_the_slide_by_the_pairs(tmp_path):
    """A corner pixel of the MSI covers the slide where the affine says, and there alone."""
    steps = (
        """
    const slider = document.getElementById("overlay"), view = views.histology;
    const color = (um) => {
      const [x, y] = view.fromUm(um).map(Math.round);
      return [...copied(view.canvas).getImageData(x, y, 1, 1).data].slice(0, 3);
    };
    learned.before = slider.disabled;
    const choice = document.getElementById("choice");
    await chosen(() => { choice.selectedIndex = 1; choice.onchange(); });
    """
        + _clicks()
        + """
    learned.after = slider.disabled;
    const map = affine(fitted()), on = map([1600, 900]), off = map([2500, 2900]);
    learned.bare = color(on); const beside = color(off);
    slider.value = 1; slider.oninput(); learned.covered = color(on);
    learned.beside = color(off).every((v, k) => v === beside[k]);
    const press = () => document.dispatchEvent(new KeyboardEvent("keydown", { key: "o" }));
    press(); learned.hidden = color(on); press(); learned.again = [color(on), +slider.value];
    """
    )
    learned = _learn(tmp_path, steps)
    assert learned["before"] and not learned["after"]
    assert learned["covered"] == [40, 40, 40] != learned["bare"] and learned["beside"]
    assert learned["hidden"] == learned["bare"] and learned["again"] == [[40, 40, 40], 1]


@needs_browser
def test_points_outlive_the_page_until_one_starts_over(tmp_path):
    """The page is opened three times: marked, found again and dropped, found as it was made."""
    steps = (
        """
    const visit = Number(sessionStorage.visit ?? 0) + 1, before = sessionStorage.learned;
    Object.assign(learned, before ? JSON.parse(before) : {});
    learned[visit] = [points.length, told(), past.length];
    if (visit === 1) {"""
        + _clicks()
        + """}
    if (visit === 2) {
      undo(); learned.undone = points.length;
      document.getElementById("clear").click(); learned.cleared = told();
      learned.stored = localStorage.length;
    }
    if (visit < 3) {
      Object.assign(sessionStorage, { visit, learned: JSON.stringify(learned) });
      dirty = false;  // else it asks whether to leave
      location.reload();
      await sleep(10000);
    }
    """
    )
    learned = _learn(tmp_path, steps)
    assert learned["1"][0] == 0 and learned["1"][1].startswith("Click a place")
    assert learned["2"][0] == 6
    assert learned["2"][1].startswith("6 points of an earlier visit are back")
    assert learned["undone"] == 0 and learned["cleared"].startswith("Started over.")
    assert learned["stored"] == 0 and learned["3"][0] == 0


@needs_browser
def test_pairs_are_clicked_and_saved(tmp_path):
    steps = (
        _clicks()
        + """
    const use = document.querySelectorAll("#rows select")[5];
    use.value = "eval"; use.onchange();
    learned.told = told(); learned.table = table(); learned.csv = await saved();
    learned.after = told();
    document.querySelector("footer").style.height = "55vh";
    for (const side of ["msi", "histology"]) press(views[side].canvas, [1, 1], "pointerdown");
    learned.sizes = Object.values(views).flatMap((view) => {
      const box = view.canvas.getBoundingClientRect();
      return [view.canvas.width - box.width, view.canvas.height - box.height];
    });
    """
    )
    learned = _learn(tmp_path, steps)
    assert learned["download"] == f"{SAMPLE}_landmarks.csv"
    assert "its name in the manifest's column landmarks" in learned["after"]
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
