"""Rules of the tree: imports, names, lengths, and a test file for each module that decides something.

Several tests compare the tree with a list of exceptions. Such a list only shrinks. A test fails if a new
exception appears, and also if an entry is no longer needed: then delete the entry. An entry that stays has a
reason beside it.
"""

import ast
import collections
import functools
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.operations import import_map
from services.runtime.settings import ROOT

MODULES = import_map.modules()
LAYER = {package: number for number, layer in enumerate(import_map.LAYERS) for package in layer}


@functools.cache
def imports() -> list[import_map.Import]:
    """Read the imports once: each process of pytest-xdist imports this module, and one runs its tests."""
    return import_map.imports()


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module's name and its syntax tree."""
    for name, path in MODULES.items():
        yield name, ast.parse(path.read_text(encoding="utf-8"))


# The imports of the tree.


def test_every_package_has_a_layer() -> None:
    packages = {import_map.package_of(name) for name in MODULES} - {"services"}
    assert packages == LAYER.keys(), "give the package a layer in services/operations/import_map.py"


def test_no_module_is_directly_in_services() -> None:
    assert [path.name for path in (ROOT / "services").glob("*.py")] in ([], ["__init__.py"])


def test_imports_go_to_lower_layers_only() -> None:
    """Imports inside functions and for types count too."""
    upwards = [
        f"{each.importer}:{each.line} imports {each.imported}"
        for each in imports()
        if (importer := import_map.package_of(each.importer))
        != (imported := import_map.package_of(each.imported))
        and LAYER[importer] >= LAYER[imported]
    ]
    assert not upwards


def test_no_package_imports_itself_through_others() -> None:
    assert import_map.cycles(import_map.package_graph()) == []


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions count too."""
    graph: import_map.Graph = {name: set() for name in MODULES}
    for each in imports():
        graph[each.importer].add(each.imported)
    assert import_map.cycles(graph) == []


LATE_WITHOUT_REASON: dict[str, int] = {}
"""Per module, the number of late imports of own modules without a comment ``# late: why``.

To shrink: move the import to the top of the file, or write the comment on its line or the line above."""


def late_without_reason() -> dict[str, int]:
    counts: collections.Counter[str] = collections.Counter()
    lines = {name: path.read_text(encoding="utf-8").splitlines() for name, path in MODULES.items()}
    for each in {(late.importer, late.line) for late in imports() if late.is_late}:
        name, line = each
        if not any("# late:" in text for text in lines[name][max(line - 2, 0) : line]):
            counts[name] += 1
    return dict(sorted(counts.items()))


def test_late_import_of_an_own_module_says_why() -> None:
    found = late_without_reason()
    more = {name: count for name, count in found.items() if count > LATE_WITHOUT_REASON.get(name, 0)}
    less = {name: count for name, count in LATE_WITHOUT_REASON.items() if found.get(name, 0) < count}
    assert not more, f"import at the top of the file, or say why not: '# late: imports MLflow, 3 s': {more}"
    assert not less, f"the list LATE_WITHOUT_REASON can shrink: {less}"


# The names of the tree.

REPEATED_CLASSES: set[str] = set()
"""Public class names that exist more than once. To shrink: give each class a precise name."""


def test_public_class_name_exists_once() -> None:
    places = collections.defaultdict(list)
    for name, tree in trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    repeated = {name: modules for name, modules in places.items() if len(modules) > 1}
    new = {name: modules for name, modules in repeated.items() if name not in REPEATED_CLASSES}
    assert not new, f"rename one of each: {new}"
    assert repeated.keys() >= REPEATED_CLASSES, f"no longer repeated: {REPEATED_CLASSES - repeated.keys()}"


GERUNDS: set[str] = set()
"""Module names that end in -ing and are no nouns of the field."""
NOUNS_IN_ING = {
    "missing",  # an adjective, in missing_values
    "retraining",  # the process
    "learning",  # the process
    "scoring",  # the process
    "alerting",  # the process
    "monitoring",  # the package
    "tracing",  # the field's noun for spans of requests
    "routing",  # the field's noun, in cluster_routing
    "signing",  # the field's noun: code signing
    "timing",  # a noun, in call_timing
    "binning",  # the field's noun
    "batching",  # the field's noun
    "loading",  # the field's noun: model loading
    "tracking",  # MLflow's own word, in mlflow_tracking
}


def test_module_names_are_nouns() -> None:
    parts = {part for name in MODULES for part in name.split(".")[1:]}
    gerunds = {part for part in parts if part.endswith("ing") and part.split("_")[-1] not in NOUNS_IN_ING}
    assert gerunds <= GERUNDS, f"name the thing, not the activity: {sorted(gerunds - GERUNDS)}"
    assert gerunds >= GERUNDS, f"the list GERUNDS can shrink: {sorted(GERUNDS - gerunds)}"


# The lengths of the tree.

FUNCTION_LINES_MEDIAN_MAX = 7
FUNCTION_LINES_P90_MAX = 19
FUNCTION_LINES_MAX = 60
METHODS_MAX = 15
LARGE_CLASSES = {
    "services.alerting.alert_state.AlertState": "to be split when Alertmanager takes over grouping",
}
"""Classes with more methods, each with the reason. Only classes that do one thing stay here."""


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, node


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_functions_are_short() -> None:
    lengths = sorted((lines_of(node), f"{name}.{node.name}") for name, node in functions())
    assert statistics.median(count for count, _ in lengths) <= FUNCTION_LINES_MEDIAN_MAX
    assert lengths[int(0.9 * len(lengths))][0] <= FUNCTION_LINES_P90_MAX
    assert lengths[-1][0] <= FUNCTION_LINES_MAX, lengths[-1]


def test_classes_are_small() -> None:
    large = {
        f"{name}.{node.name}"
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and sum(isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) for item in node.body) > METHODS_MAX
    }
    assert large <= LARGE_CLASSES.keys(), (
        f"split it, or give a reason: {sorted(large - LARGE_CLASSES.keys())}"
    )
    assert large >= LARGE_CLASSES.keys(), f"no longer large: {sorted(LARGE_CLASSES.keys() - large)}"


# The tests of the tree.

WIRING = re.compile(r"(^|\.)(__init__|process|command|\w+_command)$")
"""Modules that only connect others; tests/flow starts them."""
NOTHING_TO_TEST = {
    "services.drift.detectors.protocol": "types; tests/property/test_detector_catalogue.py checks all",
    "services.demo.preparation": "three calls in a separate process; tests/flow/test_demo.py runs it",
    "services.runtime.metrics": "declarations of metrics; tests/contract checks their names and texts",
    "services.features.lua_scripts": "texts of scripts that Redis runs; tests/flow runs them",
}
"""Modules that decide nothing, each with the reason."""
TESTED_ELSEWHERE = {
    "services.demo.trial.play": "tests/flow/test_bad_candidates.py",  # it needs all processes
    "services.model_registry.loading_process": "tests/flow/test_loading_process.py",  # it starts processes
    "services.retraining.orchestration.prefect_flow": "tests/flow/test_pipelines.py",  # it needs Prefect
    "services.retraining.ray_rows": "tests/flow/test_ray_rows.py",  # it needs a cluster
    "services.runtime.redis_internals": "tests/contract/test_redis_internals.py",
    "streams.aiokafka_internals": "tests/contract/test_aiokafka_internals.py",
    "streams.faust_internals": "tests/contract/test_faust_internals.py",
    "streams.kafka_python_internals": "tests/contract/test_kafka_python_internals.py",
}
"""Modules whose tests need a server or a library's private parts: their test file has their name there."""


TESTED_AS_ONE = ("services.runtime.declaration", "services.demo.trial.estimators", "streams.records")
"""Packages whose modules are imported through the package, or are of one kind: one test file has the
package's name."""


def own_test_file(module: str) -> Path:
    """Return where the tests of a module are: tests/unit mirrors services/ and streams/."""
    if module in TESTED_ELSEWHERE:
        return ROOT / TESTED_ELSEWHERE[module]
    module = next((package for package in TESTED_AS_ONE if module.startswith(f"{package}.")), module)
    parts = module.removeprefix("services.").split(".")
    return ROOT.joinpath("tests", "unit", *parts[:-1], f"test_{parts[-1]}.py")


def deciding_modules() -> set[str]:
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    return {name for name in MODULES if name not in packages and not WIRING.search(name)}


def test_every_module_that_decides_something_has_a_test_file() -> None:
    missing = {
        name for name in deciding_modules() - NOTHING_TO_TEST.keys() if not own_test_file(name).exists()
    }
    assert not missing, f"write a test file of the module's name: {sorted(missing)}"


@pytest.mark.parametrize("module", NOTHING_TO_TEST)
def test_module_with_nothing_to_test_exists_and_has_no_tests(module: str) -> None:
    assert module in deciding_modules()
    assert not own_test_file(module).exists()


# What a merge may leave.


def test_no_file_has_a_marker_of_a_conflict() -> None:
    suffixes = {".md", ".py", ".yml", ".yaml", ".toml", ".js", ".css", ".html"}
    folders = (
        "bench",
        "docs",
        "feature_repo",
        "k8s",
        "models",
        "observability",
        "services",
        "streams",
        "tests",
    )
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    marked = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
    found = [path.name for path in (*files, *ROOT.glob("*.md")) if marked.search(path.read_text("utf-8"))]
    assert found == []
