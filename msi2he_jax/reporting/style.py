"""How the page looks: one column, light or dark with the reader's setting, narrow or wide."""

CSS = """
:root {
  --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #d5dae0; --panel: #f5f7f9;
  --accent: #0b5c8a; --warn-paper: #fff4d6; --warn-line: #b7791f; --mark: #7a1f5c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e9ec; --soft: #a3adb8; --line: #363d45; --panel: #1d2226;
    --accent: #7cc4ee; --warn-paper: #33290f; --warn-line: #d9a441; --mark: #f0a6d6;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body {
  margin: 0 auto; max-width: 76rem; padding: 1.25rem clamp(0.9rem, 3vw, 2.5rem) 4rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: break-word;
}
h1 { font-size: clamp(1.45rem, 4vw, 2.1rem); line-height: 1.2; margin: 0.6rem 0 0.2rem; }
h2 {
  font-size: 1.35rem; line-height: 1.25; margin: 3rem 0 0.8rem; padding-top: 0.8rem;
  border-top: 1px solid var(--line); scroll-margin-top: 0.5rem;
}
h3 { font-size: 1.05rem; margin: 1.8rem 0 0.4rem; }
p, ul, dl.facts { max-width: 48rem; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, .wide:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px;
}
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 0.5rem; background: var(--paper); padding: 0.3rem 0.6rem; }
.lead { color: var(--soft); margin-top: 0; }
.banner {
  max-width: none; margin: 1.1rem 0; padding: 0.75rem 1rem;
  border-left: 0.3rem solid var(--warn-line); background: var(--warn-paper); border-radius: 0.2rem;
}
.banner p { margin: 0.2rem 0; max-width: 60rem; }
.missing { color: var(--soft); font-style: italic; }
.note, figcaption, caption { color: var(--soft); font-size: 0.9rem; }
nav ol {
  display: flex; flex-wrap: wrap; gap: 0.3rem 1.1rem; list-style: none;
  padding: 0; margin: 1rem 0 0;
}
.tiles {
  display: grid; gap: 0.8rem;
  grid-template-columns: repeat(auto-fit, minmax(min(13rem, 100%), 1fr));
  margin: 1.2rem 0;
}
.tile {
  background: var(--panel); border: 1px solid var(--line); border-radius: 0.4rem;
  padding: 0.7rem 0.9rem;
}
.tile .name { color: var(--soft); font-size: 0.9rem; }
.tile .value { font-size: 1.5rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tile .more { color: var(--soft); font-size: 0.85rem; }
dl.facts { margin: 0.8rem 0; }
dl.facts > div {
  display: grid; grid-template-columns: minmax(9rem, 15rem) 1fr; gap: 0 1rem;
  padding: 0.22rem 0; border-bottom: 1px solid var(--line);
}
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; min-width: 0; }
@media (max-width: 34rem) { dl.facts > div { grid-template-columns: 1fr; } }
.wide { overflow-x: auto; margin: 1rem 0 0.4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
caption {
  text-align: left; padding: 0 0 0.4rem; position: sticky; left: 0;
  width: min(48rem, 100vw - 1.8rem);
}
th, td {
  padding: 0.28rem 0.8rem 0.28rem 0; text-align: right; vertical-align: top; white-space: nowrap;
}
th[scope=row], thead th:first-child { text-align: left; font-weight: 400; }
thead th {
  border-bottom: 2px solid var(--line); font-weight: 600; vertical-align: bottom;
  white-space: normal;
}
tbody tr { border-bottom: 1px solid var(--line); }
tr.strong th, tr.strong td { font-weight: 650; }
td small { color: var(--soft); font-weight: 400; display: block; }
figure { margin: 1.2rem 0; }
figcaption { margin-top: 0.4rem; max-width: 60rem; }
img { max-width: 100%; height: auto; display: block; border-radius: 0.15rem; }
img.pixelated { image-rendering: pixelated; }
.panels {
  display: grid; gap: 0.7rem;
  grid-template-columns: repeat(auto-fit, minmax(min(9.5rem, 46%), 1fr));
  max-width: 72rem;
}
.panels figure { margin: 0; }
.panels img { width: 100%; border: 1px solid var(--line); }
.mark {
  display: inline-block; font-weight: 700; letter-spacing: 0.04em; color: var(--mark);
  border: 1px solid var(--mark); border-radius: 0.2rem; padding: 0 0.3rem; font-size: 0.8rem;
}
.bar { display: flex; align-items: center; gap: 0.5rem; color: var(--soft); font-size: 0.8rem; }
.bar span { display: inline-block; height: 0; border-top: 3px solid var(--ink); }
details { margin: 0.8rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre {
  overflow-x: auto; background: var(--panel); border: 1px solid var(--line); border-radius: 0.3rem;
  padding: 0.7rem 0.9rem; font-size: 0.82rem; line-height: 1.4;
}
footer {
  margin-top: 3.5rem; padding-top: 0.8rem; border-top: 1px solid var(--line);
  color: var(--soft); font-size: 0.9rem;
}
@media print {
  body { max-width: none; padding: 0; }
  nav, .skip { display: none; }
  figure, tr { break-inside: avoid; }
}
"""
