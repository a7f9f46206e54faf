#!/usr/bin/env python3
"""Draws what the bench of locks between processes measured, as docs/plots/processes.svg.

    scripts/plot_processes.py FILE.json PYTHON.json "what these figures are of"

`make bench-processes` ends with it. The picture follows the reader's choice of a light or dark page. Times of pairs lie
far apart, so their bars grow with the logarithm; those of recovery grow with the time.
"""

import json
import math
import statistics
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from plot_bench import BAR, GAP, LEFT, ROW, STYLE, WIDTH

ROOT = Path(__file__).resolve().parent.parent
PLOT = ROOT / "docs" / "plots" / "processes.svg"
# Rows of the Python bench, and what its "keylatch" is called here.
PYTHON = {
    "processes, with block": "keylatch.multiprocessing.Lock",
    "processes, a file, with block": "keylatch.filelock.FileLock",
}
LABEL = LEFT + 60


def shown(nanoseconds):
    """A time in a unit that makes it short."""
    return f"{nanoseconds:.0f} ns" if nanoseconds < 1000 else f"{nanoseconds / 1000:.1f} µs"


def panel(title, bars, top, length_of):
    """A title and a bar for each subject, the shortest first."""
    lines = [f'<text x="{LABEL}" y="{top - 10}" font-weight="600">{escape(title)}</text>']
    for place, (subject, time) in enumerate(sorted(bars, key=lambda bar: bar[1])):
        y = top + place * ROW
        kind = "ours" if "keylatch" in subject else "other"
        length = max(1.0, BAR * length_of(time))
        lines += [
            f'<text x="{LABEL - 10}" y="{y + 14}" text-anchor="end">{escape(subject)}</text>',
            f'<rect class="{kind}" x="{LABEL}" y="{y + 3}" width="{length:.1f}" height="{ROW - 8}" rx="2"/>',
            f'<text class="faint" x="{LABEL + length + 8:.1f}" y="{y + 14}">{shown(time)}</text>',
        ]
    return lines, top + len(bars) * ROW + GAP


def python_bars(figures):
    """What Python's locks take, and keylatch's of the same shape."""
    for row in figures["rows"]:
        name = PYTHON.get(row["name"])
        for subject, times in row["nanoseconds"].items() if name else ():
            yield name if subject == "keylatch" else f"Python: {subject}", statistics.median(times)


def main():
    """Draws the three panels."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    figures, python = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
    one = [row for row in figures["pairs"] if row["keys"] == 1]
    exclusive = [(row["name"], row["exclusive_ns"]) for row in one] + list(python_bars(python))
    shared = [(row["name"], row["shared_ns"]) for row in one if "mutex" not in row["name"] or "Boost" in row["name"]]
    recovery = [
        (f"keylatch, {row['name'].split(' of a ')[1].split()[0]}, {part}", 1000 * row[f"{part}_us"])
        for row in figures["waits"]
        if row["name"].startswith("kill") for part in ("p50", "p99")
    ]
    slowest = max(time for _, time in exclusive + shared)
    last = max(time for _, time in recovery)
    body, top = [], 100
    for title, bars, length_of in (
        ("lock and release, one free key, exclusive", exclusive, lambda time: math.log(time / 3) / math.log(slowest / 3)),
        ("the same, shared", shared, lambda time: math.log(time / 3) / math.log(slowest / 3)),
        ("from kill -9 of the holder to the next grant", recovery, lambda time: time / last),
    ):
        lines, top = panel(title, bars, top, length_of)
        body += lines
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top - 20}" role="img">',
        f"<title>Locks between processes: times of a pair, and of recovery</title><style>{STYLE}</style>",
        '<rect class="page" width="100%" height="100%"/>',
        '<text x="24" y="32" font-size="16" font-weight="600">Locks between processes</text>',
        f'<text class="faint" x="24" y="54">Shorter is better; bars of pairs are logarithmic. {escape(sys.argv[3])}</text>',
    ]
    PLOT.write_text("\n".join([*head, *body, "</svg>"]) + "\n")
    print(f"drew {PLOT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
