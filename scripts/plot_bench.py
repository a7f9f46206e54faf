#!/usr/bin/env python3
"""Draws what the bench measured, as docs/plots/bench.svg: what `make bench` ends with.

    scripts/plot_bench.py FILE.json "what these figures are of"

The picture follows the reader's choice of a light or dark page. Each panel is a scenario, each bar a subject.
"""

import json
import sys
from pathlib import Path

from plot_bars import panel, write

PANELS = {
    "same_key_exclusive": "one warm key, exclusive",
    "same_key_shared": "one warm key, shared",
    "keys_100k": "100,000 keys in turn",
    "keys_1m": "1,000,000 keys in turn",
}
# Locks that are not found by a key are another thing.
BARE = {"parking_lot", "std", "saa", "pthread_rwlock", "tokio"}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
    body, top = [], 100
    for scenario, title in PANELS.items():
        bars = [(row["subject"], row["versus_parking_lot"]) for row in rows
                if row["scenario"] == scenario and row["subject"] not in BARE and row.get("versus_parking_lot", 0) > 0]
        if len(bars) > 1:
            longest = max(ratio for _, ratio in bars)
            lines, top = panel(title, bars, top, lambda ratio: ratio / longest, "{:.1f}".format,
                               is_ours=lambda subject: subject == "keylatch")
            body += lines
    if not body:
        sys.exit(f"{sys.argv[1]} has none of the scenarios {', '.join(PANELS)} with two subjects; nothing was drawn")
    write("bench.svg", body, top, "Locks by key, as multiples of a bare parking_lot lock",
          "Acquire and release, as a multiple of those of a bare parking_lot::RwLock", f". {sys.argv[2]}")


if __name__ == "__main__":
    main()
