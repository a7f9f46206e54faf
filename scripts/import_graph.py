#!/usr/bin/env python3
"""The import graph of every language: what `make imports` runs.

    import_graph.py              fails where a crate has more cycles or upward arrows than scripts/import_graph.txt allows
    import_graph.py --list       names every arrow inside a cycle, and every arrow upwards
    import_graph.py --dot CRATE  prints the graph of a crate for graphviz
    import_graph.py --lower      lowers the allowances to what is there; they never rise

An arrow goes from the file that names an item to the file that defines it. Re-exports are looked through. Tests, models,
comments and documentation are left out, and so are calls of methods: they need no import. The order of the rooms is that
of docs/architecture.md.
"""

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWANCES = ROOT / "scripts" / "import_graph.txt"

# The rooms of the library from the bottom up. A room imports from rooms below it, and from those beside it in its row,
# but for `APART`, which do not know each other.
ORDER = [
    {"key", "mode", "grant", "request", "config", "error", "listed", "owner", "tier", "written"},
    {"sync"},
    {"memory"},
    {"table", "hold", "holds", "wait", "waits"},
    {"measure", "events"},
    {"engine"},
    {"inspect", "introspect", "observe"},
    {"manager", "grants", "guard", "pending", "key_verbs", "pinned", "prepared", "session", "subscription", "claim", "backend"},
    {"lib"},
]
APART = ORDER[3]
# The words that every room may use: an arrow to them is never one upwards.
WORDS = ORDER[0]


def bare(text):
    """Rust without comments, texts and test modules."""
    # A quote is a lifetime unless a closing one follows.
    pattern = r'//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\'\\\n])\''
    text = re.sub(pattern, lambda found: '""' if '"' in found.group()[:3] else " ", text, flags=re.DOTALL)
    while found := re.search(r"#\[cfg\((?:all\()?(?:test|doctest|loom)\b[^\]]*\]\s*(?:pub(?:\([^)]*\))? )?mod \w+ *(;|\{)", text):
        end = found.end()
        if found[1] == "{":
            depth = 1
            while depth and end < len(text):
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
        text = text[: found.start()] + text[end:]
    return text


def leaves(tree):
    """The paths of a `use` tree: `a::{b, c::d as e}` is [a, b] and [a, c, d]."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    if not brace:
        name, _, alias = tree.partition(" as ")
        parts = [part.strip() for part in name.split("::")]
        return [(parts, (alias or parts[-1]).strip())] if name.strip() else []
    prefix = [part.strip() for part in head.strip().rstrip(":").split("::") if part.strip()]
    found, depth, piece = [], 0, ""
    for letter in rest[: rest.rindex("}")] + ",":
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            found += [(prefix + parts, alias) for parts, alias in leaves(piece)]
            piece = ""
        else:
            piece += letter
    return found


class Crate:
    """The modules of a Rust crate and the arrows between their files."""

    def __init__(self, root):
        """Reads the crate whose lib.rs or main.rs is `root`."""
        self.modules, self.texts, self.exports, self.defined = {}, {}, {}, {}
        self.add((), root, root.parent)
        self.arrows = {}
        for module in self.modules:
            self.look(module)

    def add(self, module, file, folder):
        """Reads a module, and the modules that it declares."""
        text = bare(file.read_text())
        self.modules[module], self.texts[module] = file, text
        self.defined[module] = set(re.findall(
            r"\b(?:fn|struct|enum|union|trait|type|const|static|mod)\s+(?:mut\s+)?(\w+)|macro_rules!\s*(\w+)", text)) - {("", "")}
        self.defined[module] = {first or second for first, second in self.defined[module]}
        self.exports[module] = {}
        for name in re.findall(r"\bmod (\w+)\s*;", text):
            for path in (folder / f"{name}.rs", folder / name / "mod.rs"):
                if path.exists():
                    self.add((*module, name), path, folder / name)
        for statement in re.findall(r"\bpub(?:\([^)]*\))?\s+use\s+([^;]+);", text):
            for parts, alias in leaves(statement):
                self.exports[module][alias] = parts

    def absolute(self, module, parts):
        """A path from the crate's root, or None for one of another crate."""
        if parts[0] == "crate":
            return tuple(parts[1:])
        if parts[0] in ("self", "super"):
            base = list(module)
            for position, part in enumerate(parts):
                if part == "super":
                    base = base[:-1]
                elif part != "self":
                    return (*base, *parts[position:])
            return tuple(base)
        if (*module, parts[0]) in self.modules:
            return (*module, *parts)
        return None

    def resolve(self, path, depth=0):
        """The module that defines what a path names."""
        module = path
        while module not in self.modules:
            module = module[:-1]
        rest = path[len(module):]
        if rest and depth < 8 and rest[0] not in self.defined[module]:
            if to := self.exports[module].get(rest[0]):
                if (absolute := self.absolute(module, to)) is not None:
                    return self.resolve((*absolute, *rest[1:]), depth + 1)
        return module

    def look(self, module):
        """Finds the arrows that leave a module."""
        text, found = self.texts[module], []
        for public, statement in re.findall(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);", text):
            # A facade that shows what lies beneath it uses nothing of it.
            for parts, _ in leaves(statement):
                to = self.absolute(module, parts)
                if to is not None and not (public and to[: len(module)] == module):
                    found.append(to)
        plain = re.sub(r"\buse\s+[^;]+;", "", text)
        for path in re.findall(r"\b(?:crate|super|self)(?:::\w+)+", re.sub(r"pub\(in [^)]*\)", "", plain)):
            found.append(self.absolute(module, path.split("::")))
        for head, rest in re.findall(r"(?<![\w:])(\w+)((?:::\w+)+)", plain):
            if (*module, head) in self.modules:
                found.append((*module, head, *rest.split("::")[1:]))
        for path in found:
            target = self.resolve(path)
            if target != module:
                self.arrows.setdefault(module, set()).add(target)


def cyclic(arrows):
    """The strongly connected parts with more than one node (Tarjan)."""
    index, low, stack, parts, counter = {}, {}, [], [], [0]

    def visit(node):
        index[node] = low[node] = counter[0]
        counter[0] += 1
        stack.append(node)
        for to in sorted(arrows.get(node, ())):
            if to not in index:
                visit(to)
                low[node] = min(low[node], low[to])
            elif to in stack:
                low[node] = min(low[node], index[to])
        if low[node] == index[node]:
            part = set()
            while node not in part:
                part.add(stack.pop())
            if len(part) > 1:
                parts.append(part)

    sys.setrecursionlimit(10_000)
    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return parts


def rank(module):
    """The row of a module's room in `ORDER`, and the room."""
    name = module[0] if module else "lib"
    for row, rooms in enumerate(ORDER):
        if name in rooms:
            return row, name
    sys.exit(f"the room `{name}` has no place in ORDER of scripts/import_graph.py, nor in docs/architecture.md")


def upwards(arrows):
    """The arrows of the library that go against the order of its rooms."""
    for module, targets in sorted(arrows.items()):
        for to in sorted(targets):
            (row, room), (row_to, room_to) = rank(module), rank(to)
            beside = room != room_to and {room, room_to} <= APART
            if beside or (row_to > row and room_to not in WORDS):
                # The words may use the shim, which is how a test clock stands behind them.
                if not (room in WORDS and room_to == "sync"):
                    yield module, to


def rust():
    """The graph of each crate: {name: (arrows, file of each module)}."""
    graphs = {}
    for manifest in sorted((ROOT / "rust").glob("*/Cargo.toml")):
        folder = manifest.parent
        roots = [root for root in (folder / "src/lib.rs", folder / "src/main.rs") if root.exists()][:1]
        for root in [*roots, *sorted(folder.glob("src/bin/*/main.rs"))]:
            crate = Crate(root)
            graphs[folder.name if root in roots else f"{folder.name}/{root.parent.name}"] = crate.arrows, crate.modules
    return graphs


def python():
    """The graph of the Python package."""
    base, arrows, modules = ROOT / "python", {}, {}
    for file in sorted((base / "keylatch").rglob("*.py")):
        parts = file.relative_to(base).with_suffix("").parts
        modules[parts[:-1] if parts[-1] == "__init__" else parts] = file
    for module, file in modules.items():
        package = module if file.name == "__init__.py" else module[:-1]
        for node in ast.parse(file.read_text()).body:
            names = []
            if isinstance(node, ast.ImportFrom):
                start = package[: len(package) - node.level + 1] if node.level else ()
                stem = (*start, *(node.module.split(".") if node.module else ()))
                names = [(*stem, each.name) for each in node.names]
            elif isinstance(node, ast.Import):
                names = [tuple(each.name.split(".")) for each in node.names]
            for name in names:
                target = name if name in modules else name[:-1]
                # A facade that shows what lies beneath it uses nothing of it.
                if target in modules and target != module and target[: len(module)] != module:
                    arrows.setdefault(module, set()).add(target)
    return arrows, modules


def go():
    """The graph of the Go packages."""
    base, arrows, modules = ROOT / "go-example", {}, {}
    own = re.search(r"^module (\S+)", (base / "go.mod").read_text(), re.MULTILINE)[1]
    for file in sorted(base.rglob("*.go")):
        if file.name.endswith("_test.go"):
            continue
        package = (own, *file.parent.relative_to(base).parts)
        modules[package] = file.parent
        block = re.search(r"^import \((.*?)^\)", file.read_text(), re.MULTILINE | re.DOTALL)
        for path in re.findall(rf'"({re.escape(own)}(?:/[\w/]+)?)"', block[1] if block else ""):
            arrows.setdefault(package, set()).add((own, *path.split("/")[own.count("/") + 1:]))
    return arrows, modules


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--list", action="store_true", help="name every arrow inside a cycle and every arrow upwards")
    parser.add_argument("--dot", metavar="CRATE", help="print the graph of a crate for graphviz")
    parser.add_argument("--lower", action="store_true", help="lower the allowances to what is there")
    options = parser.parse_args()

    graphs = rust() | {"python/keylatch": python(), "go-example": go()}
    if options.dot:
        arrows, _ = graphs.get(options.dot) or sys.exit(f"there are {', '.join(graphs)}")
        print("digraph {")
        for module, targets in sorted(arrows.items()):
            for to in sorted(targets):
                print(f'  "{"::".join(module) or "lib"}" -> "{"::".join(to) or "lib"}"')
        print("}")
        return

    allowed = {}
    if ALLOWANCES.exists():
        for line in ALLOWANCES.read_text().splitlines():
            if line and not line.startswith("#"):
                name, *counts = line.split()
                allowed[name] = {key: int(value) for key, value in (count.split("=") for count in counts)}
    now, wrong = {}, False
    for name, (arrows, modules) in graphs.items():
        parts = cyclic(arrows)
        inside = [(module, to) for part in parts for module in sorted(part) for to in sorted(arrows[module] & part)]
        against = list(upwards(arrows)) if name == "keylatch" else []
        now[name] = {"cyclic": len(inside), "upwards": len(against)}
        limit = allowed.get(name, now[name] if not ALLOWANCES.exists() else {})
        over = [kind for kind, count in now[name].items() if count > limit.get(kind, 0)]
        print(f"{name}: {len(modules)} files, {sum(map(len, arrows.values()))} arrows; {len(parts)} cycles of "
              f"{sum(map(len, parts))} files, {len(inside)} arrows inside; {len(against)} upwards")
        shown = {kind: pairs for kind, pairs in (("cyclic", inside), ("upwards", against)) if options.list or kind in over}
        for kind, pairs in shown.items():
            for module, to in pairs:
                print(f"    {kind}: {'::'.join(module) or 'lib'} -> {'::'.join(to) or 'lib'}")
        if over:
            wrong = True
            print(f"    more than scripts/import_graph.txt allows: {', '.join(over)}", file=sys.stderr)
    if options.lower or not ALLOWANCES.exists():
        lines = ["# Arrows inside cycles and arrows upwards that each graph may still have. No number may rise."]
        for name, counts in now.items():
            least = {kind: min(count, allowed.get(name, counts).get(kind, 0)) for kind, count in counts.items()}
            if any(least.values()):
                lines.append(name + " " + " ".join(f"{kind}={count}" for kind, count in least.items() if count))
        ALLOWANCES.write_text("\n".join(lines) + "\n")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
