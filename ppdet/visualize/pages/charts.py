"""Charts as SVG within a page: bars, histograms, lines and heat maps, each with a title that a screen reader reads."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ppdet.visualize.draw import class_color
from ppdet.visualize.pages.markup import Html, element, join

WIDTH = 360  # of all charts in their own units, which are pixels on a narrow screen
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 40  # margins of a chart with axes
HEIGHT = 240
BAR = 22  # height of a horizontal bar with its gap
MOST_NUMBERS = 12  # rows and columns up to which a heat map writes its values into the cells
STRONGEST = 0.55  # opacity of a cell of value 1, so that text stays legible on it, in light and dark
LONGEST_LABEL = 21  # characters of a label at an axis; its whole text is in the title of its mark


class Line(NamedTuple):
    """A line of a chart: its name, x and y, the class whose color it has (-1: gray), and whether it is dashed."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0
    dashed: bool = False


def bars(title: str, values: Mapping[str, float], unit: str = "", most: float | None = None) -> Html:
    """Horizontal bars, one for each name, with the number behind each.

    Args:
        values: finite numbers, 0 or more. most: the number of a full bar; None: the largest value.
    """
    most = most or max([*values.values(), 0]) or 1
    label = min(152.0, 14 + 6.6 * max([0, *(min(len(name), LONGEST_LABEL) for name in values)]))
    texts = [f"{_short(value)}{unit}" for value in values.values()]
    room = max(40, WIDTH - label - 12 - 7 * max(map(len, texts), default=0))
    marks = []
    for number, (name, value) in enumerate(values.items()):
        y = number * BAR
        text = texts[number]
        length = max(1.0, room * min(1.0, value / most))
        hint = element("title", f"{name}: {text}")
        marks += [
            element("text", _cut(name), x=label - 6, y=y + 15, text_anchor="end"),
            element("rect", hint, class_="bar", x=label, y=y + 3, width=length, height=BAR - 6, rx=3),
            element("text", text, x=label + length + 5, y=y + 15, class_="soft"),
        ]
    spoken = "; ".join(f"{name} {_short(value)}{unit}" for name, value in list(values.items())[:20])
    return _figure(title, spoken, join(marks), max(BAR, len(values) * BAR))


def histogram(title: str, edges: Sequence[float], counts: Sequence[float], x_title: str = "") -> Html:
    """Upright bars between edges.

    Args:
        edges: (N + 1,) rising numbers. counts: (N,) numbers, 0 or more.
    """
    high = max([*counts, 0]) or 1
    place = _Plane((0, len(counts)), (0, high))
    marks = [place.rules(_ticks(0, high), x_title, "")]
    for number, count in enumerate(counts):
        left, right = place.x(number), place.x(number + 1)
        top = place.y(count)
        hint = element("title", f"{_short(edges[number])} to {_short(edges[number + 1])}: {_short(count)}")
        marks.append(
            element(
                "rect",
                hint,
                class_="bar",
                x=left + 0.5,
                y=top,
                width=max(0.5, right - left - 1),
                height=place.y(0) - top,
            )
        )
    step = max(1, math.ceil(len(counts) / 6))
    marks += [place.x_label(number, _short(edges[number])) for number in range(0, len(edges), step)]
    spoken = f"{_short(sum(counts))} in all, from {_short(edges[0])} to {_short(edges[-1])}"
    return _figure(title, spoken, join(marks), HEIGHT)


def lines(
    title: str,
    series: Sequence[Line],
    x_title: str = "",
    y_title: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    points: Sequence[tuple[float, float, int, str]] = (),
) -> Html:
    """Lines with a legend, of which values that are not finite are left out.

    Args:
        x_range, y_range: least and highest number of the axes; None: those of the lines.
        points: x, y, color and description of dots on the lines.
    """
    x_range, y_range = x_range or _range(line.x for line in series), y_range or _range(line.y for line in series)
    place = _Plane(x_range, y_range)
    marks = [place.rules(_ticks(*y_range), x_title, y_title)]
    marks += [place.x_label(value, _short(value)) for value in _ticks(*x_range)]
    for line in series:
        pairs = [(x, y) for x, y in zip(line.x, line.y) if math.isfinite(x) and math.isfinite(y)]
        path = " ".join(f"{place.x(x):.1f},{place.y(y):.1f}" for x, y in pairs)
        kind = "line second" if line.dashed else "line"
        hint = element("title", line.name)
        marks.append(element("polyline", hint, class_=kind, points=path, stroke=_color(line.color)))
    for x, y, color, text in points:
        marks.append(element("circle", element("title", text), cx=place.x(x), cy=place.y(y), r=4, fill=_color(color)))
    return _figure(title, ", ".join(line.name for line in series), join(marks), HEIGHT, _legend(series))


def heat_map(
    title: str,
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    texts: Sequence[Sequence[str]] | None = None,
    x_title: str = "",
    y_title: str = "",
) -> Html:
    """A matrix of cells that are stronger colored the closer their value is to 1.

    Args:
        values: (R, C) from 0 to 1. texts: (R, C) what is written into the cells, or in their hints if there are many;
            None: the values in percent.
    """
    side = 34 if max(len(rows), len(columns)) <= MOST_NUMBERS else 16
    label = 18 + 7 * max([0, *(min(len(name), LONGEST_LABEL) for name in rows)])
    above = 30 + round(4.6 * max([0, *(min(len(name), LONGEST_LABEL) for name in columns)]))
    marks = [
        element("text", x_title, x=label, y=12, class_="soft"),
        element("text", y_title, x=0, y=above - 6, class_="soft"),
    ]
    for number, name in enumerate(columns):
        x = label + (number + 0.6) * side
        turn = f"rotate(-40 {x:.1f} {above - 5})"
        marks.append(element("text", _cut(name), x=x, y=above - 5, transform=turn))
    for row, name in enumerate(rows):
        y = above + row * side
        marks.append(element("text", _cut(name), x=label - 6, y=y + side / 2 + 4, text_anchor="end"))
        for column, value in enumerate(values[row]):
            text = texts[row][column] if texts else f"{100 * value:.0f}"
            x = label + column * side
            hint = element("title", f"{name}, {columns[column]}: {text}")
            opacity = float(STRONGEST * min(1, max(0, value)))
            marks.append(
                element("rect", hint, class_="cell", x=x, y=y, width=side - 1, height=side - 1, fill_opacity=opacity)
            )
            if side > 20:
                marks.append(element("text", text, x=x + side / 2, y=y + side / 2 + 4, text_anchor="middle"))
    frame = f"M{label - 1} {above - 1}h{len(columns) * side + 1}v{len(rows) * side + 1}h-{len(columns) * side + 1}z"
    marks.append(element("path", class_="grid", d=frame, fill="none"))
    width = label + len(columns) * side + 80
    return _figure(
        title,
        f"{len(rows)} rows, {len(columns)} columns",
        join(marks),
        above + len(rows) * side + 1,
        width=max(WIDTH, width),
    )


class _Plane:
    """Places in a chart with axes."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
        self.x_range, self.y_range = x_range, y_range

    def x(self, value: float) -> float:
        low, high = self.x_range
        share = (min(max(value, low), high) - low) / ((high - low) or 1)
        return float(LEFT + share * (WIDTH - LEFT - RIGHT))

    def y(self, value: float) -> float:
        low, high = self.y_range
        share = (min(max(value, low), high) - low) / ((high - low) or 1)
        return float(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM))

    def rules(self, ticks: Sequence[float], x_title: str, y_title: str) -> Html:
        """Horizontal lines with their numbers, and the names of the axes."""
        marks = []
        for value in ticks:
            y = self.y(value)
            marks.append(element("path", class_="grid", d=f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}"))
            marks.append(element("text", _short(value), x=LEFT - 5, y=y + 4, text_anchor="end", class_="soft"))
        middle = (TOP + HEIGHT - BOTTOM) / 2
        marks.append(element("text", x_title, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 5, text_anchor="middle"))
        turn = f"rotate(-90 11 {middle:.0f})"
        marks.append(element("text", y_title, x=11, y=middle, text_anchor="middle", transform=turn))
        return join(marks)

    def x_label(self, value: float, text: str) -> Html:
        return element("text", text, x=self.x(value), y=HEIGHT - BOTTOM + 15, text_anchor="middle", class_="soft")


def _figure(title: str, spoken: str, marks: Html, height: float, below: Html | str = "", width: float = WIDTH) -> Html:
    """A chart with its title; one that is wider than the others has its own row, and scrolls where that is narrow."""
    least = None if width <= WIDTH else width
    label = f"{title}: {spoken}" if spoken else title
    box = f"0 0 {width:.0f} {height:.0f}"
    drawing = element("svg", marks, role="img", aria_label=label, viewBox=box, width=least)
    frame = element(
        "div", drawing, class_="plot" if least is None else "plot large", tabindex=None if least is None else 0
    )
    return element("figure", element("figcaption", title), frame, below, class_="row" if least else None)


def _legend(series: Sequence[Line]) -> Html:
    entries = []
    for line in series:
        kind = "line second" if line.dashed else "line"
        stroke = element("path", class_=kind, d="M0 5H26", stroke=_color(line.color))
        entries.append(element("li", element("svg", stroke, viewBox="0 0 26 10", aria_hidden="true"), line.name))
    return element("ul", *entries, class_="legend")


def _color(index: int) -> str:
    return "#888888" if index < 0 else "#" + "".join(f"{value:02x}" for value in class_color(index))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}\u2026"


def _short(value: float) -> str:
    """A number in few characters: 0.25, 1,200, 3.4M."""
    value = float(value)
    if abs(value) >= 1e6:
        return f"{value / 1e6:.1f}M"
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _range(groups: Iterable[Iterable[float]]) -> tuple[float, float]:
    numbers = [float(v) for group in groups for v in group if math.isfinite(v)]
    return (min(numbers), max(numbers)) if numbers else (0.0, 1.0)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    if not high > low:
        return [low]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]
