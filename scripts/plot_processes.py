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

from plot_bars import LEFT, panel, write

# Rows of the Python bench, and what its "keylatch" is called here.
PYTHON = {
    "processes, with block": "keylatch.multiprocessing.Lock",
    "processes, a file, with block": "keylatch.filelock.FileLock",
}
LABEL = LEFT + 60


def shown(nanoseconds):
    """A time in a unit that makes it short."""
    return f"{nanoseconds:.0f} ns" if nanoseconds < 1000 else f"{nanoseconds / 1000:.1f} µs"


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
        lines, top = panel(title, bars, top, length_of, shown, LABEL)
        body += lines
    write("processes.svg", body, top, "Locks between processes: times of a pair, and of recovery", "Locks between processes",
          f"; bars of pairs are logarithmic. {sys.argv[3]}")


if __name__ == "__main__":
    main()
