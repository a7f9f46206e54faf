#!/usr/bin/env python3
"""Draws what the bench of locks between machines measured, as docs/plots/etcd.svg.

    scripts/plot_etcd.py FILE.json "what these figures are of"

`make bench-etcd` ends with it. The picture follows the reader's choice of a light or dark page. Times lie far apart, so the
bars grow with the logarithm.
"""

import json
import math
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from plot_bench import BAR, GAP, LEFT, ROW, STYLE, WIDTH

ROOT = Path(__file__).resolve().parent.parent
PLOT = ROOT / "docs" / "plots" / "etcd.svg"
LABEL = LEFT + 90
TITLES = {"pair": "lock and release of a free key", "hand-over": "from the release to the waiter's return"}


def shown(microseconds):
    """A time in a unit that makes it short."""
    return f"{microseconds:.0f} µs" if microseconds < 1000 else f"{microseconds / 1000:.1f} ms"


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


def main():
    """Draws a panel for each size of cluster and kind of time."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    clusters = json.loads(Path(sys.argv[1]).read_text())
    panels = []
    for cluster in clusters:
        members = "one member" if cluster["members"] == 1 else f"{cluster['members']} members"
        for kind, title in TITLES.items():
            bars = [(row["what"], row["us"]) for row in cluster["rows"] if row["kind"] == kind]
            if len(bars) > 1:
                panels.append((f"{title}, {members}", bars))
    if not panels:
        sys.exit(f"{sys.argv[1]} has nothing to compare; nothing was drawn")
    times = [time for _, bars in panels for _, time in bars]
    least, most = min(times) / 2, max(times)
    body, top = [], 100
    for title, bars in panels:
        lines, top = panel(title, bars, top, lambda time: math.log(time / least) / math.log(most / least))
        body += lines
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top - 20}" role="img">',
        f"<title>Locks between machines: medians of a pair and of a hand-over</title><style>{STYLE}</style>",
        '<rect class="page" width="100%" height="100%"/>',
        '<text x="24" y="32" font-size="16" font-weight="600">Locks between machines</text>',
        f'<text class="faint" x="24" y="54">Shorter is better; bars are logarithmic. {escape(sys.argv[2])}</text>',
    ]
    PLOT.write_text("\n".join([*head, *body, "</svg>"]) + "\n")
    print(f"drew {PLOT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
