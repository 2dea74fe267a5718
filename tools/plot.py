"""Small plots as SVG: grouped bars, and lines on logarithmic axes."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 50, 60
COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#bab0ac"]


class Plot:
    """The frame of a plot, to which marks are added."""

    def __init__(self, title, horizontal, vertical):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            f'font-size="12">', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
        self.text(LEFT, 26, title, size=16)
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, horizontal, anchor="middle")
        middle = (TOP + HEIGHT - BOTTOM) / 2
        self.parts.append(f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">'
                          f'{escape(vertical)}</text>')

    def text(self, x, y, text, anchor="start", size=12):
        """Writes a text."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
                          f'{escape(text)}</text>')

    def grid_line(self, y, label):
        """Draws a line across, with what it stands for."""
        self.parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        self.text(LEFT - 6, y + 4, label, anchor="end")

    def legend(self, names):
        """Names the colours."""
        for place, name in enumerate(names):
            y = TOP + 20 * place
            self.parts.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{y}" width="12" height="12" '
                              f'fill="{COLOURS[place % len(COLOURS)]}"/>')
            self.text(WIDTH - RIGHT + 32, y + 10, name)

    def finish(self):
        """The whole document."""
        return "\n".join([*self.parts, "</svg>", ""])


def grouped_bars(title, vertical, groups, series):
    """Bars for each group side by side: `series` maps a name to one value a group, between 0 and 1."""
    plot = Plot(title, "", vertical)
    highest = math.ceil(max(value for values in series.values() for value in values) * 10) / 10
    height = HEIGHT - TOP - BOTTOM
    y_of = lambda value: HEIGHT - BOTTOM - value / highest * height
    for tenth in range(0, round(highest * 10) + 1):
        plot.grid_line(y_of(tenth / 10), f"{tenth / 10:.1f}")
    group_width = (WIDTH - LEFT - RIGHT) / len(groups)
    bar = group_width * 0.84 / len(series)
    for place, group in enumerate(groups):
        start = LEFT + place * group_width + group_width * 0.08
        for number, (name, values) in enumerate(series.items()):
            value = values[place]
            plot.parts.append(f'<rect x="{start + number * bar:.1f}" y="{y_of(value):.1f}" width="{bar * 0.92:.1f}" '
                              f'height="{value / highest * height:.1f}" fill="{COLOURS[number % len(COLOURS)]}">'
                              f'<title>{escape(f"{group}, {name}: {value:.3f}")}</title></rect>')
        plot.text(LEFT + (place + 0.5) * group_width, HEIGHT - BOTTOM + 18, group, anchor="middle")
    plot.legend(series)
    return plot.finish()


def log_lines(title, horizontal, vertical, series):
    """Lines through points (x, y), both axes logarithmic: `series` maps a name to its points."""
    plot = Plot(title, horizontal, vertical)
    points = [point for line in series.values() for point in line]
    x_from, x_to = (math.log10(edge(x for x, _ in points)) for edge in (min, max))
    y_from = math.floor(math.log10(min(y for _, y in points)))
    y_to = math.ceil(math.log10(max(y for _, y in points)))
    x_of = lambda x: LEFT + (math.log10(x) - x_from) / max(x_to - x_from, 1e-9) * (WIDTH - LEFT - RIGHT)
    y_of = lambda y: HEIGHT - BOTTOM - (math.log10(y) - y_from) / max(y_to - y_from, 1) * (HEIGHT - TOP - BOTTOM)
    for power in range(y_from, y_to + 1):
        plot.grid_line(y_of(10 ** power), f"{10 ** power:g}")
    for x in sorted({x for x, _ in points}):
        plot.text(x_of(x), HEIGHT - BOTTOM + 18, f"{x:,}", anchor="middle")
    for number, line in enumerate(series.values()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in sorted(line))
        plot.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        plot.parts += [f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3" fill="{colour}">'
                       f'<title>{x:,}: {y:.2f}</title></circle>' for x, y in line]
    plot.legend(series)
    return plot.finish()
