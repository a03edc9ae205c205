"""The house: what a room may import, and that no modules import one another in a circle (docs/design.md, Rooms)."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ENGINE = (
    "errors", "plain_json", "npy", "extras", "folders", "frames", "plugins", "device", "geometry", "fields", "surfaces",
    "priors", "finish", "completion", "surface_fit", "generation", "training", "gradient_fields", "jobs", "wire",
    "evaluation", "server", "cli", "__main__",
)  # fmt: skip
"""Bottom to top: a room imports what stands before it."""


def modules(package: str) -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imports(package: str) -> dict[str, set[str]]:
    """Module -> the package's own modules that it imports anywhere, in functions and for types alone too."""
    known = modules(package)
    edges: dict[str, set[str]] = defaultdict(set)
    for name, path in known.items():
        parts = name.split(".")
        base = parts if path.name == "__init__.py" else parts[:-1]
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            where = [*base[: len(base) - node.level + 1]] if node.level else []
            target = ".".join([*where, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                full = f"{target}.{alias.name}"
                if full in known or target in known:
                    edges[name].add(full if full in known else target)
        edges[name].discard(name)
    return edges


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(edges.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(edges):
        if name not in index:
            visit(name)
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_its_place() -> None:
    assert {room(name) for name in modules("engine")} - {""} <= set(ENGINE)


def test_no_room_imports_upwards() -> None:
    upwards = [
        f"{name} imports {other}"
        for name, others in imports("engine").items()
        for other in others
        if room(name) and room(other) and ENGINE.index(room(other)) > ENGINE.index(room(name))
    ]
    assert upwards == []


@pytest.mark.parametrize("package", ["engine", "addon"])
def test_no_modules_import_one_another_in_a_circle(package: str) -> None:
    assert circles(imports(package)) == []


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize(("package", "never"), [("engine", "bpy"), ("addon", "torch"), ("addon", "engine")])
def test_neither_side_imports_what_belongs_to_the_other(package: str, never: str) -> None:
    for path in modules(package).values():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            assert never not in {name.split(".")[0] for name in names}, path
