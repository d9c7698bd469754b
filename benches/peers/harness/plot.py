"""Draws a run: bars for the scenarios, lines for what grows. Plain SVG, written by hand."""

import math
from xml.sax.saxutils import escape

from .load import median
from .report import OURS, OWN, REFERENCE, RELEASED, SHOWN, count_of, is_doubtful, is_growth, ratio

COLOURS = {
    RELEASED: "#c0392b",
    OURS: "#e59086",
    REFERENCE: "#34495e",
    "tokio-hyper": "#2e86c1",
    "nginx-lua": "#27ae60",
    "go-seed": "#e0a800",
    "race-floor": "#b0b7bd",
}
WIDTH = 960


class Drawing:
    def __init__(self, height):
        self.height = height
        self.parts = [f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>']

    def text(self, x, y, text, anchor="start", size=12, fill="#333333"):
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{escape(text)}</text>'
        )

    def line(self, points, colour, width=1.0, dashes=""):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}"/>'
        )

    def bar(self, x, y, width, height, colour, title, opacity=1):
        box = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect {box} fill="{colour}" fill-opacity="{opacity}"><title>{escape(title)}</title></rect>')

    def legend(self, names, y):
        x = 60
        for name in names:
            self.bar(x, y - 10, 12, 12, COLOURS[name], name)
            self.text(x + 17, y, name)
            x += 38 + 7 * len(name)

    def svg(self):
        frame = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" font-family="sans-serif">'
        return "\n".join([frame, *self.parts, "</svg>"]) + "\n"


def present(data, scenarios):
    return [name for name in SHOWN if any(median(data["runs"][s["name"]].get(name, []), "rps") for s in scenarios)]


def bars(data):
    """Requests per second, as ratios to the reference. None if there is nothing to draw."""
    scenarios = [s for s in data["meta"]["scenarios"] if not is_growth(s) and ratio(data, s, REFERENCE)]
    if not scenarios:
        return None
    names = present(data, scenarios)
    ratios = [ratio(data, s, name) or 0 for s in scenarios for name in names]
    top = max(1.5, math.ceil(2 * max(ratios)) / 2)
    drawing, left, floor, room = Drawing(400), 60, 330, 260
    drawing.text(left, 26, f"Requests per second, {REFERENCE} = 1", size=15)
    for step in range(int(2 * top) + 1):
        y = floor - room * step / 2 / top
        drawing.line([(left, y), (WIDTH - 15, y)], "#34495e" if step == 2 else "#e3e6e8")
        drawing.text(left - 6, y + 4, f"{step / 2:g}", "end")
    span = (WIDTH - 15 - left) / len(scenarios)
    width = 0.84 * span / len(names)
    for place, scenario in enumerate(scenarios):
        x = left + span * (place + 0.08)
        for name in names:
            value = ratio(data, scenario, name)
            if value:
                height = room * value / top
                title = f"{scenario['name']}, {name}: {value:.2f}"
                opacity = 0.3 if is_doubtful(data, scenario, name) else 1
                drawing.bar(x, floor - height, width * 0.92, height, COLOURS[name], title, opacity)
            x += width
        drawing.text(left + span * (place + 0.5), floor + 18, scenario["name"], "middle", 10)
    drawing.legend(names, 378)
    return drawing.svg()


def growth(data):
    """Requests per second and CPU per request, by backends and by connections. None if there is nothing to draw."""
    scenarios = [s for s in data["meta"]["scenarios"] if is_growth(s)]
    if not scenarios:
        return None
    names = present(data, scenarios)
    drawing = Drawing(720)
    drawing.text(60, 26, "How it grows: solid with one core for the proxy, dashed with two", size=15)
    panels = [("b", "backends, 64 connections"), ("c", "connections, 3 backends")]
    for column, (letter, what) in enumerate(panels):
        for row, (figure, unit) in enumerate([("rps", "requests/s"), ("cpu_1000", "CPU ms per request")]):
            panel(
                drawing,
                data,
                [s for s in scenarios if s["name"].startswith(f"G-{letter}")],
                names,
                figure,
                f"{unit} by {what}",
                60 + 460 * column,
                310 + 320 * row,
            )
    drawing.legend(names, 700)
    return drawing.svg()


def panel(drawing, data, scenarios, names, figure, title, left, floor):
    width, room = 400, 230
    drawing.text(left, floor - room - 12, title, size=13)
    counts = sorted({count_of(s) for s in scenarios})
    values = [median(data["runs"][s["name"]].get(name, []), figure) for s in scenarios for name in names]
    top = max((value for value in values if value), default=0)
    if not counts or not top:
        return
    unit = 10 ** math.floor(math.log10(top))
    step = next(unit * factor for factor in (0.2, 0.5, 1, 2) if top / (unit * factor) <= 6)
    top = step * math.ceil(top / step)
    place = lambda number: left + width * counts.index(number) / max(1, len(counts) - 1)
    for mark in range(round(top / step) + 1):
        y = floor - room * mark * step / top
        drawing.line([(left, y), (left + width, y)], "#e3e6e8")
        drawing.text(left - 6, y + 4, f"{mark * step:g}" if top < 10000 else f"{mark * step / 1000:g}k", "end", 11)
    for number in counts:
        drawing.text(place(number), floor + 16, str(number), "middle", 11)
    for cores in (1, 2):
        for name in names:
            points = [
                (count_of(s), median(data["runs"][s["name"]].get(name, []), figure))
                for s in scenarios
                if s["cores"] == cores
            ]
            points = [(place(number), floor - room * value / top) for number, value in points if value]
            drawing.line(points, COLOURS[name], 2.2 if name in OWN else 1.4, "" if cores == 1 else "5 4")
