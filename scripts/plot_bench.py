#!/usr/bin/env python3
"""Draws what the bench measured, as docs/plots/bench.svg: what `make bench` ends with.

    scripts/plot_bench.py FILE.json "what these figures are of"

The picture follows the reader's choice of a light or dark page. Each panel is a scenario, each bar a subject.
"""

import json
import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PLOT = ROOT / "docs" / "plots" / "bench.svg"
PANELS = {
    "same_key_exclusive": "one warm key, exclusive",
    "same_key_shared": "one warm key, shared",
    "keys_100k": "100,000 keys in turn",
    "keys_1m": "1,000,000 keys in turn",
}
# Locks that are not found by a key are another thing.
BARE = {"parking_lot", "std", "saa", "pthread_rwlock", "tokio"}
WIDTH, LEFT, BAR, ROW, GAP = 860, 210, 380, 22, 46
STYLE = """
svg { font: 13px system-ui, sans-serif; }
.page { fill: #ffffff; } text { fill: #1f2328; } .faint { fill: #59636e; }
.other { fill: #a9b4c0; } .ours { fill: #0b6bcb; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; } text { fill: #e6edf3; } .faint { fill: #9198a1; }
  .other { fill: #4b5663; } .ours { fill: #4c9df3; }
}
"""


def panel(title, bars, top):
    """One scenario: its title and a bar for each subject, the shortest first."""
    longest = max(ratio for _, ratio in bars)
    lines = [f'<text x="{LEFT}" y="{top - 10}" font-weight="600">{escape(title)}</text>']
    for place, (subject, ratio) in enumerate(sorted(bars, key=lambda bar: bar[1])):
        y = top + place * ROW
        kind = "ours" if subject == "keylatch" else "other"
        length = max(1.0, BAR * ratio / longest)
        lines += [
            f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(subject)}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y + 3}" width="{length:.1f}" height="{ROW - 8}" rx="2"/>',
            f'<text class="faint" x="{LEFT + length + 8:.1f}" y="{y + 14}">{ratio:.1f}</text>',
        ]
    return lines, top + len(bars) * ROW + GAP


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
    body, top = [], 100
    for scenario, title in PANELS.items():
        bars = [(row["subject"], row["ratio"]) for row in rows
                if row["scenario"] == scenario and row["subject"] not in BARE and row["ratio"] > 0]
        if len(bars) > 1:
            lines, top = panel(title, bars, top)
            body += lines
    if not body:
        sys.exit(f"{sys.argv[1]} has none of the scenarios {', '.join(PANELS)} with two subjects; nothing was drawn")
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top - 20}" role="img">',
        f"<title>Locks by key, as multiples of one compare-and-swap and release</title><style>{STYLE}</style>",
        '<rect class="page" width="100%" height="100%"/>',
        '<text x="24" y="32" font-size="16" font-weight="600">Acquire and release, as a multiple of one compare-and-swap '
        "and release</text>",
        f'<text class="faint" x="24" y="54">Shorter is better. {escape(sys.argv[2])}</text>',
    ]
    PLOT.write_text("\n".join([*head, *body, "</svg>"]) + "\n")
    print(f"drew {PLOT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
