#!/usr/bin/env python3
"""Draws how figures change with sizes, as docs/plots/scale.svg: what `make bench-scale` ends with.

    scripts/plot_scale.py FILE.json "what these figures are of"

The picture follows the reader's choice of a light or dark page. Each panel has what grows along its foot, logarithmic.
"""

import json
import math
import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PLOT = ROOT / "docs" / "plots" / "scale.svg"
WIDTH, HEIGHT, PANEL, TALL = 860, 740, 390, 210
# The part, its title, whether its values are logarithmic, and its lines.
PANELS = (
    ("held", "beside held locks: ns", False, (
        ("ns", "pair, one warm key"), ("in_turn_ns", "pair, 10,000 keys in turn"), ("fill_ns", "acquire one more"))),
    ("threads", "threads: million pairs a second, all together", False, (
        ("own_mops", "keys of their own"), ("exclusive_mops", "one key, exclusive"), ("shared_mops", "one key, shared"))),
    ("waiters", "futures in line for one key: ns", True, (
        ("join_ns", "join the line"), ("ns", "release to the next"), ("cancel_ns", "leave the line"))),
    ("key_bytes", "bytes of a key: ns", True, (("ns", "pair, exclusive"), ("shared_ns", "pair, shared"))),
)
STYLE = """
svg { font: 13px system-ui, sans-serif; }
.page { fill: #ffffff; } text { fill: #1f2328; } .faint { fill: #59636e; font-size: 11px; }
.axis { stroke: #d1d9e0; } polyline { fill: none; stroke-width: 2; }
.line0 { stroke: #0b6bcb; fill: #0b6bcb; } .line1 { stroke: #bc4c00; fill: #bc4c00; } .line2 { stroke: #1a7f37; fill: #1a7f37; }
polyline.line0, polyline.line1, polyline.line2 { fill: none; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; } text { fill: #e6edf3; } .faint { fill: #9198a1; } .axis { stroke: #3d444d; }
  .line0 { stroke: #4c9df3; fill: #4c9df3; } .line1 { stroke: #f0883e; fill: #f0883e; }
  .line2 { stroke: #3fb950; fill: #3fb950; }
}
"""


def short(number):
    """A number that fits below a mark."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return f"{number:g}"


def marks_of(highest, lowest, logarithmic):
    """Values to draw a horizontal line at."""
    if logarithmic:
        powers = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
        return [10.0**power for power in powers]
    step = 10 ** math.floor(math.log10(highest))
    step = next(step * part for part in (0.2, 0.5, 1, 2) if highest / (step * part) <= 6)
    return [step * number for number in range(math.ceil(highest / step) + 1)]


def panel(title, rows, lines, logarithmic, left, top):
    """One chart: its marks, a line for each figure, and what the lines are."""
    sizes = [int(row["subject"]) for row in rows]
    values = [row[name] for row in rows for name, _ in lines]
    marks = marks_of(max(values), min(values), logarithmic)
    scale = math.log10 if logarithmic else float
    low, high = scale(marks[0]), scale(marks[-1])
    inner_left, inner_width = left + 44, PANEL - 60

    def across(size):
        first, last = math.log(sizes[0]), math.log(sizes[-1])
        return inner_left + inner_width * (math.log(size) - first) / (last - first)

    def up(value):
        return top + TALL - TALL * (scale(value) - low) / (high - low)

    out = [f'<text x="{left}" y="{top - 40}" font-weight="600">{escape(title)}</text>']
    for mark in marks:
        out += [
            f'<line class="axis" x1="{inner_left}" x2="{inner_left + inner_width}" y1="{up(mark):.1f}" y2="{up(mark):.1f}"/>',
            f'<text class="faint" x="{inner_left - 6}" y="{up(mark) + 4:.1f}" text-anchor="end">{short(mark)}</text>',
        ]
    last = -100.0
    for size in sizes:
        if across(size) - last >= 24:
            last = across(size)
            out.append(f'<text class="faint" x="{last:.1f}" y="{top + TALL + 16}" text-anchor="middle">{short(size)}</text>')
    beside = inner_left
    for number, (name, label) in enumerate(lines):
        points = [(across(size), up(row[name])) for size, row in zip(sizes, rows)]
        out.append(f'<polyline class="line{number}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        out += [f'<circle class="line{number}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points]
        out += [
            f'<rect class="line{number}" x="{beside}" y="{top - 23}" width="10" height="3"/>',
            f'<text class="faint" x="{beside + 14}" y="{top - 17}">{escape(label)}</text>',
        ]
        beside += 24 + 6 * len(label)
    return out


def main():
    """Draws the four panels."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
    body = []
    for number, (part, title, logarithmic, lines) in enumerate(PANELS):
        left, top = 24 + (number % 2) * (PANEL + 30), 140 + (number // 2) * (TALL + 110)
        own = [row for row in rows if row["scenario"] == part]
        if len(own) < 2:
            sys.exit(f"{sys.argv[1]} has no sizes of {part}; `make bench-scale` writes them")
        body += panel(title, own, lines, logarithmic, left, top)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>Figures by the number of locks, threads and waiters, and by the length of keys</title><style>{STYLE}</style>",
        '<rect class="page" width="100%" height="100%"/>',
        '<text x="24" y="32" font-size="16" font-weight="600">How figures change with sizes</text>',
        f'<text class="faint" x="24" y="54">{escape(sys.argv[2])}</text>',
    ]
    PLOT.write_text("\n".join([*head, *body, "</svg>"]) + "\n")
    print(f"drew {PLOT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
