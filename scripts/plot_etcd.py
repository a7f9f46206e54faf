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

from plot_bars import LEFT, panel, write

LABEL = LEFT + 90
TITLES = {"pair": "lock and release of a free key", "hand-over": "from the release to the waiter's return"}


def shown(microseconds):
    """A time in a unit that makes it short."""
    return f"{microseconds:.0f} µs" if microseconds < 1000 else f"{microseconds / 1000:.1f} ms"


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
        lines, top = panel(title, bars, top, lambda time: math.log(time / least) / math.log(most / least), shown, LABEL)
        body += lines
    write("etcd.svg", body, top, "Locks between machines: medians of a pair and of a hand-over", "Locks between machines",
          f"; bars are logarithmic. {sys.argv[2]}")


if __name__ == "__main__":
    main()
