import pytest

from msi2he_jax.reporting import html


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#x27;"),
        (None, "–"),
        (1.5, "1.5"),
        (html.Markup("<b>"), "<b>"),
        ("a\u202eb\x1b", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_text_is_escaped_unless_it_is_markup(value, written):
    assert html.text(value) == written


def test_attributes_are_escaped_too():
    made = html.tag("p", "x", class_='a" onload="b', aria_label=None)
    assert made == '<p class="a&quot; onload=&quot;b">x</p>'
    assert 'alt="&quot;&gt;"' in html.image(b"", '">')


@pytest.mark.parametrize(
    ("value", "written"),
    [(1.23456, "1.235"), (None, "–"), (float("nan"), "–"), (True, "–"), ("1", "–"), (2, "2.000")],
)
def test_numbers(value, written):
    assert html.number(value) == written


def test_a_table_names_its_rows_columns_and_itself():
    made = html.table("what <it> shows", ["a", "b"], [["x", 1], ["y", None]], strong=[1])
    assert "<caption>what &lt;it&gt; shows</caption>" in made
    assert made.count('scope="col"') == 2 and made.count('scope="row"') == 2
    assert '<tr class="strong"><th scope="row">y</th><td>–</td></tr>' in made
    assert 'aria-label="what &lt;it&gt; shows"' in made


def test_sections_are_reached_by_the_contents():
    page = html.page("t", "", [("Versions & more", html.paragraph("x"))], "")
    assert 'href="#versions-more"' in page and 'id="versions-more"' in page
    assert "Versions &amp; more" in page


def test_a_plot_follows_the_readers_screen():
    drawn = html.plot(lambda look: f"{look.paper} {look.width_in}".encode(), "alt words")
    assert drawn.count("<source") == 3 and drawn.count("prefers-color-scheme: dark") == 2
    assert drawn.count("max-width") == 2 and 'alt="alt words"' in drawn
