"""Plots: what is given is drawn, what is missing is said, and the SVG can stand in a page beside others."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tlm.report import drawing
from tlm.report.drawing import INK, SERIES, Plot, Point, add_legend, bars, lines, new_figure

SHALLOW = [Point(100, 40, 38, 43), Point(400, 50, 47, 52)]
DEEP = [Point(400, 61, 60, 62), Point(100, 45, 44, 46)]


def swept(name: str = "sweep", **changes: object) -> Plot:
    series = [("shallow", SHALLOW), ("deep", DEEP), ("absent", [])]
    return lines(name, "Accuracy & Ws", "Ws, paragraphs", "Accuracy, %", series, **changes)  # type: ignore[arg-type]


def compared(name: str = "bars") -> Plot:
    return bars(name, "By task", "Accuracy, %", ("sea", "land"), [("a", [SHALLOW[0], None]), ("b", DEEP)])


def shapes(plot: Plot) -> int:
    """Every point, and its line in the legend, is a marker and the two ends of its interval."""
    return len(re.findall(r"<use [^>]*var\(--series-\d\)", plot.svg))


def test_a_plot_is_a_png_and_an_svg_with_its_words() -> None:
    plot = swept(levels=[("TF-IDF", 55.0)], log=True)
    assert plot.png.startswith(b"\x89PNG") and not plot.missing
    for text in ("Accuracy &amp; Ws", "Ws, paragraphs", "Accuracy, %", "shallow", "deep", "TF-IDF", "100", "400"):
        assert f">{text}</text>" in plot.svg, text
    assert "absent" not in plot.svg, "a series without points is not drawn"


def test_a_logarithmic_axis_has_a_tick_at_every_point_and_at_no_other() -> None:
    three = [*SHALLOW, Point(90_000, 70, 69, 71)]
    plot = lines("log", "", "Ws", "", [("a", three)], log=True)
    assert re.findall(r">([\d,]+)</text>", plot.svg)[:3] == ["100", "400", "90,000"]


def test_a_legend_has_fewer_columns_where_it_would_be_wider_than_its_figure() -> None:
    heights = []
    for words in (1, 3, 5, 8):
        figure, axes = new_figure("", "", "")
        for place in range(4):
            axes.plot([0, 1], label=f"{place}: {'a series ' * words}".strip())
        extent = add_legend(figure, axes).get_window_extent()
        assert extent.width <= figure.bbox.width and len(figure.legends) == 1
        heights.append(extent.height)
    assert heights == sorted(heights) and heights[0] < heights[1] < heights[-1]


def test_a_plot_without_a_series_has_an_empty_legend() -> None:
    assert add_legend(*new_figure("", "", "")).get_texts() == []


def test_every_point_is_drawn_and_none_where_there_is_none() -> None:
    points, legend = 3, 2
    assert shapes(compared()) == 3 * (points + legend)
    assert ">sea</text>" in compared().svg and ">land</text>" in compared().svg


@pytest.mark.parametrize(
    "plot",
    [
        lines("none", "Nothing", "x", "y", []),
        lines("none", "Nothing", "x", "y", [("a", [])], levels=[("TF-IDF", 5.0)]),
        bars("none", "Nothing", "y", ("sea",), [("a", [None])]),
        bars("none", "Nothing", "y", (), []),
    ],
)
def test_without_a_point_it_says_so_and_draws_nothing(plot: Plot) -> None:
    assert plot == Plot("none", "Nothing", missing="Nothing of this was measured.")


def test_the_svg_is_one_element_that_needs_nothing_and_follows_the_pages_colours() -> None:
    for plot in (swept(), compared()):
        root = ElementTree.fromstring(plot.svg.replace("xlink:href", "href"))
        assert root.tag == "svg" and "width" not in root.attrib and "viewBox" in root.attrib
        assert root.attrib["role"] == "img" and root.attrib["aria-label"] == plot.title
        assert "http" not in plot.svg and "<metadata" not in plot.svg
        assert not any(color in plot.svg for color in (INK, *SERIES, "#ffffff"))
        assert "var(--ink)" in plot.svg and "var(--series-0)" in plot.svg and "var(--series-1)" in plot.svg


@pytest.mark.parametrize("plot", [swept(), compared()], ids=["lines", "bars"])
def test_what_is_said_of_a_point_lies_above_all_that_is_seen(plot: Plot) -> None:
    """A mark above it would be what one points at, and of that nothing is said."""
    root = ElementTree.fromstring(plot.svg.replace("xlink:href", "href"))
    [axes] = [each for each in root.iter("g") if each.get("id") == f"{plot.name}-axes_1"]
    kinds = ["tip" if "data-tip" in each.attrib else each.get("id", "") for each in axes]
    first = kinds.index("tip")
    assert not [kind for kind in kinds[first:] if "line2d" in kind or "LineCollection" in kind]


def test_ids_of_two_plots_of_a_page_differ_and_each_refers_to_its_own() -> None:
    one, other = (set(re.findall(r'\bid="([^"]+)"', swept(name).svg)) for name in ("one", "other"))
    assert one and not one & other
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', swept("one").svg))
    assert used and {a or b for a, b in used} <= one


def test_the_same_points_make_the_same_bytes() -> None:
    for draw in (swept, compared):
        assert (draw().png, draw().svg) == (draw().png, draw().svg)


def test_nothing_is_drawn_before_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(drawing, "new_figure", lambda *words: asked.append(words) or new_figure(*words))
    plot = swept()
    assert not asked
    assert plot.png and plot.svg and len(asked) == 1, "and once for both"
