#!/usr/bin/env python3
"""The guide in docs/: what `make docs` and `make docs-check` run.

    guide.py faults        writes docs/faults.md, the table of deliberate faults, from mutants/
    guide.py check         checks links, anchors, named files and the length of the README
    guide.py preprocess    is called by mdbook: links to files outside of docs/ become links to the repository
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FAULTS = DOCS / "faults.md"
README_LINES = 150
# A Markdown link or picture, and its target.
LINK = re.compile(r"(!?\[[^\]]*\])\(([^()\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
# A file of this repository that a text names between backticks.
NAMED = re.compile(r"`((?:rust|go-example|tests|scripts|include|examples|ops|mutants|python|docs)/[\w./-]+)`")


def faults():
    """Writes the table of deliberate faults."""
    rows = {}
    for patch in sorted((ROOT / "mutants").rglob("*.patch")):
        first = patch.read_text().splitlines()[0]
        if not first.startswith("#"):
            sys.exit(f"{patch.relative_to(ROOT)}: the first line is no comment that says what the patch breaks")
        what, _, checks = first.lstrip("# ").partition(";")
        room = patch.parent.relative_to(ROOT / "mutants").as_posix()
        rows.setdefault(room, []).append((patch.stem, what.strip().rstrip("."), checks.strip()))
    lines = [
        "# Deliberate faults",
        "",
        "`scripts/guide.py faults` writes this page from the patches in `mutants/`.",
        f"There are {sum(map(len, rows.values()))}. [Testing](testing.md) says how they are run.",
    ]
    for room, patches in rows.items():
        lines += ["", f"## {room}", "", "| patch | what it breaks | what has to notice |", "|---|---|---|"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in patches]
    FAULTS.write_text("\n".join(lines) + "\n")


def anchors(text):
    """The anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages():
    """Every Markdown file that belongs to the repository, and the generated one."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.split("\n")
    return sorted({ROOT / name for name in listed if name and (ROOT / name).exists()} | {FAULTS})


def check():
    """Looks at every link between files, at every file that is named, and at the table of contents."""
    wrong = []
    for page in pages():
        text, name = page.read_text(), page.relative_to(ROOT)
        prose = FENCE.sub(lambda code: "\n" * code.group().count("\n"), text)
        for number, line in enumerate(prose.splitlines(), 1):
            for _, target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = target.partition("#")
                to = (page.parent / path).resolve() if path else page
                if not to.exists():
                    wrong.append(f"{name}:{number}: {target} does not exist")
                elif anchor and to.suffix == ".md" and anchor not in anchors(to.read_text()):
                    wrong.append(f"{name}:{number}: {target} names no heading")
            for path in NAMED.findall(line):
                # A crate's page names files from the crate's folder on.
                bases = [base for base in page.parents if base.is_relative_to(ROOT)]
                if not any(True for base in bases for _ in base.glob(path.rstrip("/") + "*")):
                    wrong.append(f"{name}:{number}: {path} does not exist")
    contents = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "SUMMARY.md").read_text()))
    for page in sorted(DOCS.glob("*.md")):
        if page.name not in contents | {"SUMMARY.md"}:
            wrong.append(f"docs/{page.name} is not in docs/SUMMARY.md")
    lines = len((ROOT / "README.md").read_text().splitlines())
    if lines > README_LINES:
        wrong.append(f"README.md has {lines} lines; {README_LINES} are enough, the rest belongs into docs/")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(pages())} pages: links, anchors and named files exist; README.md has {lines} lines")


def preprocess():
    """Points links to files outside of docs/ at the repository."""
    if sys.argv[2:3] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    address = re.search(r'^repository = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]

    def walk(items):
        for item in items:
            if chapter := isinstance(item, dict) and item.get("Chapter"):
                chapter["content"] = re.sub(r"\]\(\.\./", f"]({address}/tree/main/", chapter["content"])
                walk(chapter["sub_items"])

    walk(book.get("items") or book["sections"])
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    actions = {"faults": faults, "check": check, "preprocess": preprocess}
    if len(sys.argv) > 1 and sys.argv[1] in actions:
        actions[sys.argv[1]]()
    else:
        sys.exit(__doc__)
