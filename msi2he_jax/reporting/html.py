"""The pieces of a page: escaped text, tables, pictures as data URIs, and the page around them.

Everything that comes from data goes through `text`; only `Markup` is taken as it is. The page's
own policy forbids it to load or run anything.
"""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msi2he_jax.reporting.figures import Look, look
from msi2he_jax.reporting.style import CSS

ABSENT = "–"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: Any) -> Markup:
    """Returns a value as HTML: escaped, unless it is `Markup`; None as a dash."""
    if isinstance(value, Markup):
        return value
    plain = ABSENT if value is None else str(value)
    visible = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in plain
    )
    return Markup(html.escape(visible))


def join(parts: Iterable[Any], separator: str = "\n") -> Markup:
    """Returns the parts as one HTML text."""
    return Markup(separator.join(text(part) for part in parts))


def tag(name: str, *content: Any, **attributes: Any) -> Markup:
    """Returns an element; attributes may end in `_` (`class_`), `_` inside becomes `-`."""
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    written = "".join(f' {key}="{text(value)}"' for key, value in pairs if value is not None)
    return Markup(f"<{name}{written}>{join(content, '')}</{name}>")


def paragraph(*content: Any, class_: str | None = None) -> Markup:
    """Returns a paragraph."""
    return tag("p", *content, class_=class_)


def missing(what: str, how: str = "") -> Markup:
    """Returns a sentence that says which part is not there, and how to get it."""
    return paragraph(f"{what} {how}".strip(), class_="missing")


def bullets(items: Iterable[Any]) -> Markup:
    """Returns a list."""
    return tag("ul", *(tag("li", item) for item in items))


def facts(pairs: Iterable[tuple[str, Any]]) -> Markup:
    """Returns names and values as a description list."""
    rows = (tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs)
    return tag("dl", *rows, class_="facts")


def anchor(title: str) -> str:
    """Returns a section's id."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def section(title: str, *content: Any) -> Markup:
    """Returns a section under a heading of the second level, reachable by its anchor."""
    name = anchor(title)
    heading = tag("h2", title, id=name)
    return tag("section", heading, *content, aria_labelledby=name)


def details(summary: str, *content: Any) -> Markup:
    """Returns content that is folded away until asked for."""
    return tag("details", tag("summary", summary), *content)


def number(value: Any, digits: int = 3) -> str:
    """Returns a number with `digits` decimals; a dash for what is none or not finite."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return ABSENT
    return f"{value:.{digits}f}"


def table(
    caption: Any,
    columns: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    *,
    strong: Iterable[int] = (),
    footer: Any = None,
) -> Markup:
    """Returns a table whose first column heads its rows; it scrolls sideways where it must.

    Args:
        caption: Says what it shows.
        columns: Headings.
        rows: Cells.
        strong: Numbers of rows to set in bold.
        footer: A note under the table, or None.
    """
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    chosen = set(strong)
    body = [_row(row, index in chosen) for index, row in enumerate(rows)]
    inner = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    label = html.unescape(re.sub(r"<[^>]*>", "", text(caption)))
    wide = tag("div", inner, class_="wide", role="region", aria_label=label, tabindex="0")
    return join([wide, paragraph(footer, class_="note") if footer else Markup("")])


def _row(cells: Sequence[Any], strong: bool) -> Markup:
    first = tag("th", cells[0], scope="row")
    rest = (tag("td", cell) for cell in cells[1:])
    return tag("tr", first, *rest, class_="strong" if strong else None)


def data_uri(png: bytes) -> str:
    """Returns PNG bytes as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def image(png: bytes, alt: str, *, pixelated: bool = False, style: str | None = None) -> Markup:
    """Returns an image; `pixelated` shows pixels as squares where it is enlarged."""
    name = "pixelated" if pixelated else None
    return Markup(
        f'<img src="{data_uri(png)}" alt="{text(alt)}"'
        + (f' class="{name}"' if name else "")
        + (f' style="{text(style)}"' if style else "")
        + ">"
    )


def plot(draw: Callable[[Look], bytes], alt: str) -> Markup:
    """Returns a plot that follows the reader's screen: light or dark, wide or narrow.

    Args:
        draw: PNG bytes for a `figures.Look`.
        alt: What it shows, in words.
    """
    sources = []
    for dark, narrow in ((True, True), (True, False), (False, True)):
        media = ["(prefers-color-scheme: dark)"] * dark + ["(max-width: 34rem)"] * narrow
        uri = data_uri(draw(look(dark=dark, narrow=narrow)))
        sources.append(f'<source srcset="{uri}" media="{" and ".join(media)}">')
    width = f"width: {look().width_in * 96:.0f}px"
    return Markup(f"<picture>{''.join(sources)}{image(draw(look()), alt, style=width)}</picture>")


def figure(content: Any, caption: Any, *, class_: str | None = None) -> Markup:
    """Returns a figure with its caption."""
    return tag("figure", content, tag("figcaption", caption), class_=class_)


def page(title: str, header: Any, sections: Sequence[tuple[str, Any]], footer: Any) -> str:
    """Returns the whole page.

    Args:
        title: Of the window.
        header: What stands above the contents list.
        sections: Titles and contents, in order.
        footer: The last lines.
    """
    links = (tag("li", tag("a", name, href=f"#{anchor(name)}")) for name, _ in sections)
    contents = tag("nav", tag("ol", *links), aria_label="Contents")
    main = tag("main", *(section(name, content) for name, content in sections), id="main")
    skip = tag("a", "Skip to the contents", href="#main", class_="skip")
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{text(title)}</title>",
        f"<style>{CSS}</style>",
    ]
    parts = ["<!DOCTYPE html>", '<html lang="en">', "<head>", *head, "</head>", "<body>"]
    parts += [skip, tag("header", header), contents, main, tag("footer", footer)]
    return "\n".join([*parts, "</body>", "</html>", ""])
