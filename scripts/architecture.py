"""The layers of the package, drawn from its imports: ``python scripts/architecture.py``.

Prints the circles of files and the imports that run back up (there should be none of either), and
the picture of ``docs/architecture.md``, which ``--write`` brings up to date.
"""

import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"

#: From the bottom to the top; what stands on one line knows nothing of its neighbours.
LAYERS = (
    ("errors", "types"),
    ("settings", "shells"),
    ("registry", "plugins", "typed"),
    ("config",),
    ("linear",),
    ("inner",),
    ("implicit",),
    ("gradients",),
    ("_minimize",),
    ("vae",),
    ("inference",),
    ("data",),
    ("training",),
    ("evaluation",),
    ("runs",),
    ("report",),
    ("experiments",),
    ("sweeps",),
    ("replicas",),
    ("console",),
    ("commands",),
    ("cli",),
)

Imports = dict[str, set[str]]


def files() -> Imports:
    """Which file imports which, by module; imports for type checkers alone count as well."""
    sys.path.insert(0, str(ROOT))
    graph = grimp.build_graph("savi", cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def circle(imports: Imports) -> list[str]:
    """The modules of a circle, the first again at the end; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def parts(imports: Imports) -> Imports:
    """The same between the parts of the package; ``savi`` itself only gathers names."""
    between: Imports = {}
    for module, imported in imports.items():
        if module != "savi":
            part = module.split(".")[1]
            others = {other.split(".")[1] for other in imported if other != "savi"} - {part}
            between.setdefault(part, set()).update(others)
    return between


def arrows_up(between: Imports) -> list[tuple[str, str]]:
    """The imports between parts that do not run downwards in :data:`LAYERS`."""
    level = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    return [
        (part, other)
        for part, others in sorted(between.items())
        for other in sorted(others)
        if level[part] <= level[other]
    ]


def picture(between: Imports) -> str:
    """The parts as a Mermaid diagram, without the arrows that follow from others."""
    below: Imports = {}
    for part in TopologicalSorter(between).static_order():
        direct = between[part]
        below[part] = direct.union(*(below[other] for other in direct))
    lines = ["```mermaid", "graph TD"]
    for layer in reversed(LAYERS):
        for part in layer:
            implied = set().union(*(below[other] for other in between[part]))
            lines += [f"    {part} --> {other}" for other in sorted(between[part] - implied)]
    return "\n".join([*lines, "```"])


def with_picture(page: str, drawn: str) -> str:
    """The page with the drawn picture in place of its own."""
    return re.sub(r"```mermaid\n.*?```", lambda _: drawn, page, flags=re.DOTALL)


def main() -> int:
    """Print what was found; 1 where an import runs back up or in a circle."""
    imports = files()
    found, up = circle(imports), arrows_up(parts(imports))
    print(f"{len(imports)} files; a circle of files: {' -> '.join(found) or 'none'}")
    print(f"imports that run back up: {', '.join(map(' -> '.join, up)) or 'none'}")
    drawn = picture(parts(imports)) if not up else ""
    print(drawn)
    if "--write" in sys.argv and drawn:
        PAGE.write_text(with_picture(PAGE.read_text("utf-8"), drawn), "utf-8")
    return int(bool(found or up))


if __name__ == "__main__":
    sys.exit(main())
