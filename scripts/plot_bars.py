"""What the plots of bars share: their look, a panel, and the page around the panels."""

from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PLOTS = ROOT / "docs" / "plots"
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


def panel(title, bars, top, length_of, shown, label=LEFT, is_ours=lambda subject: "keylatch" in subject):
    """A title and a bar for each subject, the shortest first; returns the lines and the place below them."""
    lines = [f'<text x="{label}" y="{top - 10}" font-weight="600">{escape(title)}</text>']
    for place, (subject, value) in enumerate(sorted(bars, key=lambda bar: bar[1])):
        y = top + place * ROW
        kind = "ours" if is_ours(subject) else "other"
        length = max(1.0, BAR * length_of(value))
        lines += [
            f'<text x="{label - 10}" y="{y + 14}" text-anchor="end">{escape(subject)}</text>',
            f'<rect class="{kind}" x="{label}" y="{y + 3}" width="{length:.1f}" height="{ROW - 8}" rx="2"/>',
            f'<text class="faint" x="{label + length + 8:.1f}" y="{y + 14}">{shown(value)}</text>',
        ]
    return lines, top + len(bars) * ROW + GAP


def write(name, body, bottom, title, heading, note):
    """Writes the page with its panels."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom - 20}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        '<rect class="page" width="100%" height="100%"/>',
        f'<text x="24" y="32" font-size="16" font-weight="600">{escape(heading)}</text>',
        f'<text class="faint" x="24" y="54">Shorter is better{escape(note)}</text>',
    ]
    plot = PLOTS / name
    plot.write_text("\n".join([*head, *body, "</svg>"]) + "\n")
    print(f"drew {plot.relative_to(ROOT)}")
