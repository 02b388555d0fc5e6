"""The structure of the package in numbers: rooms, floors, and which room imports from which.

    python tests/structure.py

A room is a folder or a module at the top of `trivet`; its floor is one above the highest room that
it imports from. Imports for type checkers alone do not count, nor those of public names from
`trivet`, which is all that `testing` imports.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "runtime/trivet"

Arrows = dict[str, set[str]]
"""For each module, or room, those that it imports from."""


def modules() -> dict[str, Path]:
    """Every module below `trivet`, by its dotted name without `trivet.`; a folder by its own."""
    found = dict[str, Path]()
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = file
    return found


def room(module: str) -> str:
    """The room of a module."""
    return module.partition(".")[0]


def imported(module: str, file: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of `trivet` that this one imports from when the program runs."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in statements(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}".lstrip(".")
                yield inner if inner in known else source


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from statements(node)


def arrows_of_modules() -> Arrows:
    """For each module those that it imports from."""
    known = modules()
    return {
        module: {other for other in imported(module, file, known) if other in known} - {module}
        for module, file in known.items()
    }


def arrows_of_rooms(arrows: Arrows) -> Arrows:
    """For each room those that it imports from."""
    between: Arrows = {room(module): set() for module in arrows}
    for module, others in arrows.items():
        between[room(module)] |= {room(other) for other in others} - {room(module)}
    return between


def floors(arrows: Arrows) -> dict[str, int]:
    """The floor of each room, from 0.

    Raises:
        CycleError: two rooms import from each other, perhaps through others.
    """
    found = dict[str, int]()
    for name in TopologicalSorter(arrows).static_order():
        found[name] = 1 + max((found[other] for other in arrows[name]), default=-1)
    return found


def circle(arrows: Arrows) -> list[str]:
    """Some that import from one another in a circle; empty if there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> None:
    """Print the numbers."""
    arrows = arrows_of_modules()
    rooms = arrows_of_rooms(arrows)
    sys.stdout.write(f"modules {len(arrows)}, rooms {len(rooms)}\n")
    for title, each in (("modules", arrows), ("rooms", rooms)):
        sys.stdout.write(f"circle among {title}: {' → '.join(circle(each)) or 'none'}\n")
    if circle(rooms):
        return
    placed = floors(rooms)
    count = sum(map(len, rooms.values()))
    # Each arrow of a structure without a circle goes down: there are floors because of that.
    sys.stdout.write(f"floors {1 + max(placed.values())}, arrows between rooms {count}\n")
    for floor in sorted(set(placed.values()), reverse=True):
        sys.stdout.write(f"{floor:>3}  {'  '.join(n for n in placed if placed[n] == floor)}\n")


if __name__ == "__main__":
    main()
