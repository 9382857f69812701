"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const COLUMNS = "name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um";
const SIDES = ["msi", "histology"], RADIUS = 7, LARGEST_SCALE = 2, OVERLAY = 0.6;
const BEGIN = "Click a place in one picture, then the same place in the other.";
const START = JSON.stringify(data.points), KEPT = `msi2he landmarks ${data.key}`;
let points = JSON.parse(START), past = [], dirty = false, notice = "";
const element = (id) => document.getElementById(id);
element("sample").textContent = data.sample;
element("save").textContent = `Save ${data.file}`;

/* Least squares: MSI (x, y) um to histology (x, y) um, from points with both sides and use "fit". */
function solve(a, b) {
  const n = a.length;
  for (let i = 0; i < n; i++) {
    let p = i;
    for (let r = i + 1; r < n; r++) if (Math.abs(a[r][i]) > Math.abs(a[p][i])) p = r;
    if (Math.abs(a[p][i]) < 1e-9) return null;
    [a[i], a[p]] = [a[p], a[i]]; [b[i], b[p]] = [b[p], b[i]];
    for (let r = 0; r < n; r++) if (r !== i) {
      const f = a[r][i] / a[i][i];
      for (let c = i; c < n; c++) a[r][c] -= f * a[i][c];
      for (let c = 0; c < b[r].length; c++) b[r][c] -= f * b[i][c];
    }
  }
  return b.map((row, i) => row.map((v) => v / a[i][i]));
}
function affine(chosen) {
  if (chosen.length < 3) return null;
  const mean = (k) => chosen.reduce((s, p) => s + p.msi[k], 0) / chosen.length;
  const cx = mean(0), cy = mean(1);
  const size = Math.max(1e-9, ...chosen.map((p) => Math.hypot(p.msi[0] - cx, p.msi[1] - cy)));
  const row = (m) => [(m[0] - cx) / size, (m[1] - cy) / size, 1];
  const a = [[0, 0, 0], [0, 0, 0], [0, 0, 0]], b = [[0, 0], [0, 0], [0, 0]];
  for (const p of chosen) {
    const r = row(p.msi);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) a[i][j] += r[i] * r[j];
      for (let j = 0; j < 2; j++) b[i][j] += r[i] * p.histology[j];
    }
  }
  if (a[0][0] * a[1][1] - a[0][1] ** 2 < 4e-4 * (a[0][0] + a[1][1]) ** 2) return null;
  const x = solve(a, b);
  if (!x) return null;
  const map = (m) => [0, 1].map((j) => row(m).reduce((s, v, i) => s + v * x[i][j], 0));
  map.linear = [[x[0][0], x[1][0]], [x[0][1], x[1][1]]].map((r) => r.map((v) => v / size));
  return map;
}
const whole = (p) => p.msi && p.histology;
const fitted = () => points.filter((p) => whole(p) && p.use === "fit");
const off = (map, p) => map ? Math.hypot(...map(p.msi).map((v, k) => v - p.histology[k])) : null;
function scales(m) {
  const [[a, b], [c, d]] = m, s = a * a + b * b + c * c + d * d, t = Math.abs(a * d - b * c);
  const high = Math.sqrt((s + Math.sqrt(Math.max(0, s * s - 4 * t * t))) / 2);
  return [t / high, high];
}
const median = (v) => { const s = [...v].sort((a, b) => a - b), h = s.length >> 1;
  return s.length % 2 ? s[h] : (s[h - 1] + s[h]) / 2; };

/* Views: picture pixels -> turned and mirrored -> scaled and shifted to the canvas. */
class View {
  constructor(side) {
    Object.assign(this, { side, info: data[side], canvas: element(side), turns: 0, mirrored: false, drag: null });
    this.choose(this.info.pictures?.[0] ?? this.info);
    this.canvas.addEventListener("pointerdown", (e) => this.down(e));
    this.canvas.addEventListener("pointermove", (e) => this.move(e));
    this.canvas.addEventListener("pointerup", (e) => this.up(e));
    this.canvas.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }
  /* Shows another picture on the same pixels; where one looks stays. */
  choose({ src }) {
    const image = new Image();
    image.onload = () => {
      this.original = this.image = image;
      if (this.side === "msi") this.adjust(+element("contrast").value);
      this.shift ? draw() : this.fit();
    };
    image.src = src;
  }
  /* Contrast c: intensities to the power 2^-c; black and white stay. */
  adjust(contrast) {
    const { w, h } = this.info;
    const sheet = Object.assign(document.createElement("canvas"), { width: w, height: h });
    const g = sheet.getContext("2d", { willReadFrequently: true });
    g.drawImage(this.original, 0, 0);
    const pixels = g.getImageData(0, 0, w, h), values = pixels.data;
    const table = Array.from({ length: 256 }, (_, v) => Math.round(255 * (v / 255) ** 2 ** -contrast));
    for (let i = 0; i < values.length; i++) if (i % 4 < 3) values[i] = table[values[i]];
    g.putImageData(pixels, 0, 0);
    this.image = sheet;
  }
  linear() {
    const [c, s] = [[1, 0], [0, 1], [-1, 0], [0, -1]][this.turns], m = this.mirrored ? -1 : 1;
    return [[c * m, -s], [s * m, c]];
  }
  fit() {
    this.measure();
    const { w, h } = this.info, sideways = this.turns % 2;
    this.zoom = 0.95 * Math.min(this.canvas.width / (sideways ? h : w), this.canvas.height / (sideways ? w : h));
    this.shift = [0, 0];
    const middle = this.toCanvas([w / 2, h / 2]);
    this.shift = [this.canvas.width / 2 - middle[0], this.canvas.height / 2 - middle[1]];
    draw();
  }
  measure() {
    this.canvas.width = this.canvas.clientWidth; this.canvas.height = this.canvas.clientHeight;
  }
  /* What was in the middle stays there; a canvas that CSS stretched would mark places wrongly. */
  resize() {
    const before = [this.canvas.width, this.canvas.height];
    if (before[0] === this.canvas.clientWidth && before[1] === this.canvas.clientHeight) return;
    this.measure();
    if (!this.shift) return;
    this.shift = this.shift.map((v, k) => v + ([this.canvas.width, this.canvas.height][k] - before[k]) / 2);
    draw();
  }
  toCanvas([x, y]) {
    const [[a, b], [c, d]] = this.linear();
    return [this.zoom * (a * x + b * y) + this.shift[0], this.zoom * (c * x + d * y) + this.shift[1]];
  }
  toPixel([u, v]) {
    const [[a, b], [c, d]] = this.linear();
    const x = (u - this.shift[0]) / this.zoom, y = (v - this.shift[1]) / this.zoom;
    return [a * x + c * y, b * x + d * y];
  }
  toUm(p) { return this.toPixel(p).map((v, k) => this.info.origin[k] + v * this.info.um[k]); }
  fromUm(um) { return this.toCanvas(um.map((v, k) => (v - this.info.origin[k]) / this.info.um[k])); }
  place(e) {
    const { width, height, clientWidth, clientHeight } = this.canvas;
    if (width !== clientWidth || height !== clientHeight) this.resize();
    const box = this.canvas.getBoundingClientRect();
    return [e.clientX - box.left, e.clientY - box.top];
  }
  inside(p) { const [x, y] = this.toPixel(p); return x >= 0 && y >= 0 && x <= this.info.w && y <= this.info.h; }
  hit(at) {
    return points.findIndex((p) => p[this.side] &&
      Math.hypot(...this.fromUm(p[this.side]).map((v, k) => v - at[k])) <= RADIUS + 2);
  }
  down(e) {
    const at = this.place(e);
    this.drag = { from: at, last: at, moved: false, point: this.hit(at) };
    try { this.canvas.setPointerCapture(e.pointerId); } catch { /* a pointer that is gone already */ }
  }
  move(e) {
    if (!this.drag) return;
    const at = this.place(e), drag = this.drag;
    if (!drag.moved && Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) < 4) return;
    if (!drag.moved && drag.point >= 0) remember();
    drag.moved = true;
    if (drag.point >= 0) points[drag.point][this.side] = this.toUm(at);
    else this.shift = this.shift.map((v, k) => v + at[k] - drag.last[k]);
    drag.last = at;
    drag.point >= 0 ? refresh() : draw();
  }
  up(e) {
    const drag = this.drag;
    this.drag = null;
    if (!drag || drag.moved || drag.point >= 0 || !this.inside(this.place(e))) return;
    mark(this.side, this.toUm(this.place(e)));
  }
  wheel(e) {
    e.preventDefault();
    const at = this.place(e), factor = Math.exp(-0.0015 * e.deltaY);
    this.shift = this.shift.map((v, k) => at[k] + (v - at[k]) * factor);
    this.zoom *= factor;
    draw();
  }
  paint(map) {
    const g = this.canvas.getContext("2d"), [[a, b], [c, d]] = this.linear(), z = this.zoom;
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.clearRect(0, 0, this.canvas.width, this.canvas.height);
    g.setTransform(z * a, z * c, z * b, z * d, ...this.shift);
    g.imageSmoothingEnabled = z < 1;
    g.drawImage(this.image, 0, 0, this.info.w, this.info.h);
    if (map && this.side === "histology") this.overlay(g, map, +element("overlay").value);
    g.setTransform(1, 0, 0, 1, 0, 0);
    for (const p of points) {
      if (p[this.side]) this.cross(g, this.fromUm(p[this.side]), p, true);
      if (map && this.side === "histology" && p.msi) this.cross(g, this.fromUm(map(p.msi)), p, false);
    }
  }
  /* Lays the MSI on the slide, by where three of its corners come to lie. */
  overlay(g, map, opacity) {
    const { image, info: { um, origin, w, h } } = views.msi;
    if (!image || !opacity) return;
    const at = (x, y) => this.fromUm(map([origin[0] + x * um[0], origin[1] + y * um[1]]));
    const zero = at(0, 0), along = (p, n) => p.map((v, k) => (v - zero[k]) / n);
    g.setTransform(...along(at(w, 0), w), ...along(at(0, h), h), ...zero);
    g.globalAlpha = opacity;
    g.imageSmoothingEnabled = false;
    g.drawImage(image, 0, 0);
    g.globalAlpha = 1;
  }
  cross(g, [x, y], p, real) {
    const color = getComputedStyle(document.body).getPropertyValue(p.use === "fit" ? "--fit" : "--eval");
    for (const [width, style] of [[4, "#fff"], [2, color]]) {
      g.lineWidth = width; g.strokeStyle = style; g.setLineDash(real ? [] : [3, 3]); g.beginPath();
      if (real) { g.arc(x, y, RADIUS, 0, 7); g.moveTo(x - RADIUS, y); g.lineTo(x + RADIUS, y);
        g.moveTo(x, y - RADIUS); g.lineTo(x, y + RADIUS); } else g.arc(x, y, RADIUS, 0, 7);
      g.stroke();
    }
    if (!real) return;
    g.font = "bold 13px system-ui"; g.setLineDash([]); g.lineWidth = 3; g.strokeStyle = "#fff";
    g.strokeText(p.name, x + RADIUS + 3, y - 4); g.fillStyle = color; g.fillText(p.name, x + RADIUS + 3, y - 4);
  }
}

function remember() { past.push(JSON.stringify(points)); dirty = true; notice = ""; }

/* What was marked outlives the page: the browser keeps it, unless it is told to keep nothing. */
function keep() {
  const now = JSON.stringify(points);
  try {
    if (now === START) localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, now);
  } catch { /* It is told so, or is full. */ }
}
function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(KEPT));
    return Array.isArray(found) && JSON.stringify(found) !== START ? found : null;
  } catch { return null; }
}
function restore() {
  const found = kept();
  if (!found) return;
  remember();
  points = found;
  notice = `${found.length} points of an earlier visit are back (Start over drops them). `;
}
function clear() { remember(); points = JSON.parse(START); notice = "Started over. "; refresh(); }

function mark(side, um) {
  remember();
  const open = points.find((p) => !p[side]);
  if (open) open[side] = um;
  else {
    let n = points.length + 1;
    while (points.some((p) => p.name === `L${n}`)) n++;
    points.push({ name: `L${n}`, use: "fit", msi: null, histology: null, [side]: um });
  }
  refresh();
}
function undo() { if (past.length) { points = JSON.parse(past.pop()); dirty = true; notice = ""; refresh(); } }
function draw() {
  const map = affine(fitted());
  element("overlay").disabled = !map;
  for (const view of Object.values(views)) if (view.shift) view.paint(map);
}
const shown = (um) => um ? um.map((v) => v.toFixed(1)).join(", ") : "click";
const error = (v) => v === null ? "" : v.toFixed(1);

function refresh() {
  const map = affine(fitted()), left = [];
  element("rows").replaceChildren(...points.map((p, i) => {
    const row = document.createElement("tr"), add = (child) => {
      const cell = document.createElement("td");
      cell.append(child); row.append(cell);
    };
    const name = document.createElement("input"), use = document.createElement("select");
    const gone = document.createElement("button");
    name.value = p.name;
    name.onchange = () => {
      const taken = points.some((q) => q !== p && q.name === name.value.trim());
      if (!taken && name.value.trim()) { remember(); p.name = name.value.trim(); }
      refresh();
    };
    for (const word of ["fit", "eval"]) use.add(new Option(word, word, false, word === p.use));
    use.onchange = () => { remember(); p.use = use.value; refresh(); };
    gone.textContent = "Delete";
    gone.onclick = () => { remember(); points.splice(i, 1); refresh(); };
    const out = p.use === "fit" && whole(p) ? off(affine(fitted().filter((q) => q !== p)), p) : null;
    if (out !== null) left.push(out);
    [name, use, shown(p.msi), shown(p.histology), error(whole(p) ? off(map, p) : null), error(out), gone].forEach(add);
    return row;
  }));
  tell(map, left);
  keep();
  draw();
}
function tell(map, left) {
  const count = fitted().length, rest = points.filter((p) => whole(p) && p.use === "eval").length;
  let text = points.length ? `${count} pairs to fit, ${rest} to evaluate. ` : `${BEGIN} `, warn = false;
  if (count < 3) text += "An affine needs at least 3.";
  else if (!map) { text += "They lie on one line: mark a point off it."; warn = true; }
  else {
    const rms = Math.sqrt(fitted().reduce((s, p) => s + off(map, p) ** 2, 0) / count);
    text += `Residual ${rms.toFixed(1)} um`;
    text += left.length ? `, left out in turn: median ${median(left).toFixed(1)} um.` : ".";
    const [low, high] = scales(map.linear);
    if (low < 1 / LARGEST_SCALE || high > LARGEST_SCALE) {
      text += ` The histology comes out ${low.toFixed(2)} to ${high.toFixed(2)} times as large: check the pairs.`;
      warn = true;
    }
  }
  say(notice + text, warn);
}
function say(text, warn) {
  element("says").textContent = text;
  element("says").className = warn ? "warn" : "";
}

// As tables.py writes and reads text that a spreadsheet would take for a formula.
const FORMULA = /^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/, NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const marked = (text) => FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text;
const unmarked = (cell) => cell.startsWith("'") && FORMULA.test(cell) ? cell.slice(1) : cell;
const quoted = (text) => /[",\r\n]/.test(text) ? `"${marked(text).replaceAll('"', '""')}"` : marked(text);
function csv() {
  const lines = points.filter(whole).map((p) =>
    [quoted(p.name), p.use, ...p.histology.map((v) => v.toFixed(4)), ...p.msi.map((v) => v.toFixed(4))].join(","));
  return [COLUMNS, ...lines].join("\n") + "\n";
}
function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = data.file;
  link.click();
  URL.revokeObjectURL(link.href);
  dirty = false;
  say(`Saved ${data.file}: put it beside the manifest, and its name in the manifest's column landmarks.`, false);
}
function cells(line) {
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map((m) => (m[1] ?? m[2]).replaceAll('""', '"'));
}
function load(text) {
  const [header, ...lines] = text.replace(/^\ufeff/, "").split(/\r?\n/).filter((line) => line.trim())
    .map((line) => cells(line).map(unmarked));
  const at = Object.fromEntries(COLUMNS.split(",").map((name) => [name, (header ?? []).indexOf(name)]));
  const read = lines.map((line) => ({ name: line[at.name], use: line[at.use] === "eval" ? "eval" : "fit",
    msi: [+line[at.msi_x_um], +line[at.msi_y_um]], histology: [+line[at.histology_x_um], +line[at.histology_y_um]] }));
  if (Object.values(at).includes(-1) || read.some((p) => ![...p.msi, ...p.histology].every(Number.isFinite))) {
    say(`This is no landmarks.csv: it needs the columns ${COLUMNS}, and numbers in um.`, true);
    return;
  }
  remember(); points = read; refresh();
}

const views = {};
for (const side of SIDES) views[side] = new View(side);

function choose(number) {
  const pictures = data.msi.pictures, choice = element("choice");
  choice.selectedIndex = (number + pictures.length) % pictures.length;
  views.msi.choose(pictures[choice.selectedIndex]);
}
function toggleOverlay() {
  const slider = element("overlay");
  if (slider.disabled) return;
  if (+slider.value) slider.dataset.last = slider.value;
  slider.value = +slider.value ? 0 : slider.dataset.last ?? OVERLAY;
  draw();
}
function showWhole() { for (const view of Object.values(views)) view.fit(); }

for (const { name } of data.msi.pictures) element("choice").add(new Option(name));
element("choice").onchange = () => choose(element("choice").selectedIndex);
element("contrast").oninput = () => { views.msi.adjust(+element("contrast").value); draw(); };
element("overlay").oninput = draw;
element("undo").onclick = undo;
element("save").onclick = save;
element("clear").onclick = clear;
element("help").onclick = () => element("keys").showModal();
element("open").onclick = () => element("file").click();
element("file").onchange = async (e) => { if (e.target.files[0]) load(await e.target.files[0].text()); };
for (const button of document.querySelectorAll("[data-do]")) button.onclick = () => {
  const view = views[button.dataset.view];
  if (button.dataset.do === "turn") view.turns = (view.turns + 1) % 4;
  if (button.dataset.do === "mirror") { view.mirrored = !view.mirrored; view.turns = (4 - view.turns) % 4; }
  view.fit();
};

const KEYS = {
  n: () => choose(element("choice").selectedIndex + 1),
  p: () => choose(element("choice").selectedIndex - 1),
  o: toggleOverlay,
  0: showWhole,
  "?": () => element("keys").showModal(),
};
document.addEventListener("keydown", (e) => {
  const writing = e.target.matches?.("#rows input, #rows select"), key = e.key.toLowerCase();
  const run = e.ctrlKey || e.metaKey ? { z: undo, s: save }[key] : e.altKey ? null : KEYS[key];
  if (!run || element("keys").open || (writing && key !== "s")) return;
  e.preventDefault();
  run();
});
window.addEventListener("beforeunload", (e) => { if (dirty) e.preventDefault(); });
restore();
refresh();
