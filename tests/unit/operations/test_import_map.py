"""The graph of imports is read from the code, and drawn without implied arrows."""

from services.operations import import_map


def test_module_that_is_imported_from_its_package_is_the_target() -> None:
    found = {
        (each.importer, each.imported)
        for each in import_map.imports()
        if each.importer == "services.operations.import_map"
    }
    assert found == {
        ("services.operations.import_map", "services.operations.generated_section"),
        ("services.operations.import_map", "services.runtime.settings"),
    }


def test_late_imports_are_told_apart() -> None:
    cli = [each for each in import_map.imports() if each.importer == "services.operations.cli"]
    assert {each.imported: each.is_late for each in cli}["streams.garbage"] is False


def test_package_of_a_module() -> None:
    assert import_map.package_of("services.drift.windows.window") == "drift"
    assert import_map.package_of("services.drift") == "drift"
    assert import_map.package_of("streams.codec") == "streams"


def test_implied_arrow_is_left_out() -> None:
    graph = {"top": {"middle", "bottom"}, "middle": {"bottom"}, "bottom": set()}
    assert import_map.without_implied(graph) == {"top": {"middle"}, "middle": {"bottom"}, "bottom": set()}


def test_acyclic_graph_has_no_cycles() -> None:
    assert import_map.cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_each_cycle_is_found_once() -> None:
    graph = {"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c"}, "e": {"a"}}
    assert import_map.cycles(graph) == [["a", "b"], ["c", "d"]]


def test_picture_has_every_package() -> None:
    picture = import_map.picture()
    assert all(f'["services/{package}"]' in picture for layer in import_map.LAYERS[:-1] for package in layer)
    assert "  runtime --> streams" in picture
