"""The imports of the tree, read from the code, and their picture in docs/concepts/architecture.md.

``python -m services.operations.import_map`` draws it again; a test fails when it is out of date.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from services.operations.generated_section import GeneratedSection
from services.runtime.settings import ROOT

LAYERS = (
    ("demo",),
    ("operations",),
    (
        "features",
        "scoring",
        "drift",
        "learning",
        "archive",
        "retraining",
        "rollout",
        "alerting",
        "dashboard",
    ),
    ("model_registry",),
    ("feature_store", "monitoring"),
    ("runtime",),
    ("streams",),
)
"""Packages from top to bottom. A package imports only packages of lower layers."""

Graph = dict[str, set[str]]


class Import(NamedTuple):
    """One import of an own module by another."""

    importer: str
    imported: str
    line: int
    is_late: bool
    """Whether it is inside a function."""
    is_for_types: bool
    """Whether only the type checker sees it."""


def modules() -> dict[str, Path]:
    """Return the file of each module of services/ and streams/, by its dotted name."""
    files = (path for folder in ("services", "streams") for path in sorted((ROOT / folder).rglob("*.py")))
    return {_dotted(path): path for path in files}


def imports() -> list[Import]:
    """Return every import of an own module, including those inside functions and those for types."""
    known = modules()
    return [found for name, path in known.items() for found in _imports_of(name, path, known)]


def package_of(module: str) -> str:
    """Return the package below services/ to which a module belongs, or ``streams``."""
    parts = module.split(".")
    return parts[0] if parts[0] == "streams" or len(parts) == 1 else parts[1]


def package_graph() -> Graph:
    """Return for each package the packages that it imports."""
    graph: Graph = {package: set() for layer in LAYERS for package in layer}
    for found in imports():
        importer, imported = package_of(found.importer), package_of(found.imported)
        if importer != imported:
            graph.setdefault(importer, set()).add(imported)
    return graph


def without_implied(graph: Mapping[str, set[str]]) -> Graph:
    """Return an acyclic graph without the edges that a longer path implies."""
    return {node: targets - _implied(graph, targets) for node, targets in graph.items()}


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other, sorted; empty for an acyclic graph."""
    reached = {node: _reached(graph, node) for node in graph}
    on_cycle = sorted(node for node in graph if node in reached[node])
    groups = {
        tuple(other for other in on_cycle if other in reached[node] and node in reached[other])
        for node in on_cycle
    }
    return sorted(map(list, groups))


def picture() -> str:
    """Return the package graph as a Mermaid block, one row per layer."""
    graph = without_implied(package_graph())
    lines = ["```mermaid", "flowchart TB"]
    for number, layer in enumerate(LAYERS):
        lines += [f"  subgraph layer{number}[ ]", "    direction LR"]
        lines += [f'    {package}["{_folder(package)}"]' for package in layer]
        lines += ["  end"]
    lines += [f"  {package} --> {target}" for package in graph for target in sorted(graph[package])]
    return "\n".join([*lines, "```"])


SECTION = GeneratedSection(
    "imports", ROOT / "docs" / "concepts" / "architecture.md", "-m services.operations.import_map", picture
)


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _folder(package: str) -> str:
    return "streams" if package == "streams" else f"services/{package}"


def _imports_of(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node, is_late, is_for_types in _statements(tree, is_late=False, is_for_types=False):
        for target in _targets(node, known):
            if target != name:
                yield Import(name, target, node.lineno, is_late, is_for_types)


def _statements(
    parent: ast.AST, *, is_late: bool, is_for_types: bool
) -> Iterator[tuple[ast.stmt, bool, bool]]:
    """Yield all statements below a node, with `Import.is_late` and `Import.is_for_types`.

    Expressions are left out: they contain no import, and are nine tenths of a tree.
    """
    is_late = is_late or isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef)
    is_for_types = is_for_types or _is_type_checking(parent)
    for child in ast.iter_child_nodes(parent):
        if isinstance(child, ast.stmt):
            yield child, is_late, is_for_types
        if not isinstance(child, ast.expr):
            yield from _statements(child, is_late=is_late, is_for_types=is_for_types)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _targets(node: ast.AST, known: Mapping[str, Path]) -> set[str]:
    """Return the own modules that a statement imports; ``from package import module`` names the module."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if alias.name in known}
    if isinstance(node, ast.ImportFrom) and node.module and node.module in known:
        inner = {f"{node.module}.{alias.name}" for alias in node.names}
        names_module = inner & known.keys()
        return names_module | ({node.module} if inner - names_module else set())
    return set()


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        found = graph.get(waiting.pop(), set()) - reached
        reached |= found
        waiting += found
    return reached


def _implied(graph: Mapping[str, set[str]], targets: set[str]) -> set[str]:
    """Return those targets that can also be reached through another target."""
    return {target for via in targets for target in _reached(graph, via) & targets}


if __name__ == "__main__":
    SECTION.write()
