import re
import shutil
from pathlib import Path

import pytest

from services.runtime import declaration_file
from services.runtime.declaration import DeclarationError
from services.runtime.declaration_file import BYTES_MAX, DeclarationFolder
from services.runtime.settings import ROOT

GOOD = (ROOT / "models" / "arrival_delay" / "model.yaml").read_text(encoding="utf-8")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty folder of models."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def declare(models: Path, name: str, text: str) -> Path:
    path = models / name / "model.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(models: Path) -> list[str]:
    """Return the lines of the error with which the folder is refused."""
    with pytest.raises(DeclarationError) as refused:
        declaration_file.load_all(models)
    return str(refused.value).splitlines()


def test_an_unknown_key_is_named_with_line_column_and_the_nearest_one(models: Path) -> None:
    path = declare(models, "arrival_delay", GOOD.replace("  horizon_hours: 48", "  horizon_hour: 48"))
    lines = faults_of(models)
    line = 1 + next(at for at, text in enumerate(GOOD.splitlines()) if "horizon_hours" in text)
    assert any(
        fault.startswith(
            f"{path}:{line}:3: label.horizon_hour: unknown setting (did you mean horizon_hours?)"
        )
        for fault in lines
    )


def test_broken_yaml_is_named_with_its_place(models: Path) -> None:
    path = declare(models, "arrival_delay", "name: arrival_delay\nowner: [open\ntask: binary\n")
    (fault,) = faults_of(models)
    assert fault.startswith(f"{path}:3:")


def test_models_are_read_by_name_in_order(models: Path) -> None:
    declare(models, "second", GOOD.replace("name: arrival_delay", "name: second"))
    declare(models, "arrival_delay", GOOD)
    (models / "no_model").mkdir()
    found = declaration_file.load_all(models)
    assert list(found) == ["arrival_delay", "second"]
    assert found["second"].name == "second"


def test_a_missing_file_is_named_with_what_a_model_is(models: Path) -> None:
    path = models / "m" / "model.yaml"
    with pytest.raises(DeclarationError) as refused:
        declaration_file.load(path)
    assert str(refused.value) == f"{path}: no such file; a model is a folder that holds a model.yaml"


def test_a_folder_of_another_name_is_refused_only_where_names_matter(models: Path) -> None:
    path = declare(models, "other", GOOD)
    assert declaration_file.load(path).name == "arrival_delay"
    with pytest.raises(DeclarationError) as refused:
        declaration_file.load_named(path)
    assert (
        str(refused.value) == f"{path}:2:1: name: is 'arrival_delay', but the folder is 'other': rename one"
    )


def test_faults_of_one_file_are_reported_in_the_order_of_its_settings(models: Path) -> None:
    text = GOOD.replace("task: binary", "task: ordinal").replace("horizon_hours: 48", "horizon_hours: -1")
    path = declare(models, "arrival_delay", text)
    at = {line.split(":")[0].strip(): 1 + number for number, line in enumerate(text.splitlines())}
    first, second = faults_of(models)
    assert first.startswith(f"{path}:{at['task']}:1: task: Input should be 'binary'")
    assert second.startswith(f"{path}:{at['horizon_hours']}:3: label.horizon_hours: Input should be greater")


def test_a_missing_setting_is_named_at_its_section(models: Path) -> None:
    path = declare(models, "arrival_delay", GOOD.replace("  horizon_hours: 48", "  #"))
    line = 1 + GOOD.splitlines().index("label:")
    assert faults_of(models) == [f"{path}:{line}:1: label.horizon_hours: Field required"]


def test_an_item_of_a_list_has_its_own_position(models: Path) -> None:
    path = declare(models, "arrival_delay", GOOD.replace("{to: team, minimum_severity: info}", "{to: TEAM}"))
    line = 1 + next(at for at, text in enumerate(GOOD.splitlines()) if "{to: team" in text)
    (found,) = faults_of(models)
    assert found.startswith(f"{path}:{line}:8: alerts.routes.1.to: ")


def test_an_unknown_key_in_an_item_of_a_list_is_named_with_the_nearest_one(models: Path) -> None:
    declare(models, "arrival_delay", GOOD.replace("{to: team, minimum_severity: info}", "{to: a, kind: []}"))
    (found,) = faults_of(models)
    assert "alerts.routes.1.kind: unknown setting (did you mean kinds?)" in found


def test_a_setting_like_no_other_is_refused_with_those_that_are_known(models: Path) -> None:
    path = declare(models, "arrival_delay", GOOD + "\nzzz: 1\n")
    (found,) = faults_of(models)
    assert found.startswith(f"{path}:{len(GOOD.splitlines()) + 2}:1: zzz: unknown setting; known are name, ")


def test_an_alias_is_suggested_for_a_misspelt_schema(models: Path) -> None:
    """The key is ``schema``, although the field of the class has another name."""
    declare(models, "arrival_delay", GOOD.replace("  schema:", "  schemas:", 1))
    assert any(
        "request.schemas: unknown setting (did you mean schema?)" in each for each in faults_of(models)
    )


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_what_is_no_mapping_is_refused_at_its_beginning(models: Path, text: str) -> None:
    path = declare(models, "arrival_delay", text)
    (found,) = faults_of(models)
    assert found.startswith(f"{path}:1:1: model: Input should be a valid dictionary")


FREE = re.sub(r"business:.*?\n\n", "", GOOD, flags=re.DOTALL)
"""The same model, of which nothing is said about costs."""
COSTS = """
business:
  unit: USD
  costs:
    0: {0: 0, 1: 25}
    1: {0: 4, 1: 0}
"""


@pytest.mark.parametrize(
    ("text", "line", "column", "fault"),
    [
        (COSTS.replace("unit", "units"), 2, 3, "business.units: unknown setting (did you mean unit?)"),
        (
            COSTS.replace("1: {0", "2: {0"),
            5,
            5,
            "business.costs: needs a cost for each pair of prediction and label",
        ),
        (COSTS.replace("0: {0: 0, 1: 25}", "0: {0: 0}"), 4, 5, "see the prediction '0'"),
        (COSTS.replace("25", ".inf"), 4, 15, "business.costs.0.1: Input should be a finite number"),
        (COSTS + "  over: 2\n", 1, 1, "business: over and under are for regressions"),
        ("\nretraining2: 1\n", 1, 1, "retraining2: unknown setting (did you mean retraining?)"),
    ],
)
def test_what_is_wrong_with_declared_costs_is_said_with_its_place(
    models: Path, text: str, line: int, column: int, fault: str
) -> None:
    path = declare(models, "arrival_delay", FREE + text)
    before = len(FREE.splitlines())
    found = [each for each in faults_of(models) if fault in each][-1]
    assert found.startswith(f"{path}:{before + 1 + line}:{column}: ")


def test_harm_by_cost_needs_costs(models: Path) -> None:
    path = declare(models, "arrival_delay", FREE.replace("  refit: true", "  refit: true\n  harm: cost"))
    line = 2 + next(at for at, text in enumerate(FREE.splitlines()) if "refit: true" in text)
    (found,) = faults_of(models)
    assert found.startswith(f"{path}:{line}:3: ")
    assert "retraining.harm: cost needs a section business that declares the costs" in found


def test_each_declaration_of_a_folder_is_read_for_itself_and_again_when_it_changes(tmp_path: Path) -> None:
    good = _named("a")
    _write(tmp_path, "a", good)
    _write(tmp_path, "b", "name: b\nowner: [")
    folder = DeclarationFolder(tmp_path)
    assert (set(folder.valid), set(folder.faults)) == ({"a"}, {"b"})
    assert folder.faults["b"].startswith(f"{tmp_path}/b/model.yaml:")
    assert folder.refresh() == frozenset()
    _write(tmp_path, "b", _named("b"))
    assert folder.refresh() == {"b"}
    assert (set(folder.valid), set(folder.faults)) == ({"a", "b"}, set())


def test_a_declaration_that_becomes_invalid_keeps_its_last_valid_form(tmp_path: Path) -> None:
    _write(tmp_path, "a", _named("a"))
    folder = DeclarationFolder(tmp_path)
    _write(tmp_path, "a", "\x00")
    assert folder.refresh() == {"a"}
    assert (set(folder.valid), set(folder.faults)) == ({"a"}, {"a"})
    shutil.rmtree(tmp_path / "a")
    assert folder.refresh() == {"a"}
    assert (folder.valid, folder.faults) == ({}, {})


def test_a_file_beside_the_declaration_changes_the_model(tmp_path: Path) -> None:
    _write(tmp_path, "a", _named("a"))
    folder = DeclarationFolder(tmp_path)
    (tmp_path / "a" / "training.py").write_text("")
    assert folder.refresh() == {"a"}


def _write(folder: Path, name: str, text: str) -> None:
    path = folder / name / "model.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def _named(name: str) -> str:
    return GOOD.replace("name: arrival_delay", f"name: {name}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe",
        b"name: \xff",
        "name: m".encode("utf-16"),
        b"at: 2020-99-99",
        b"x: " + b"[" * 5000,
        b"x: &x [*x]",
        b"<<: 5",
        b"? [1, 2]\n: 3",
        b"name: 1e400",
        b'name: "\\ud800"',
        b"at: 2020-01-01 25:61:61",
        b"x: !!python/object/apply:os.system ['true']",
        b"x: !!int abc",
        b"x: !!binary '%'",
    ],
)
def test_whatever_one_declaration_holds_the_others_are_read(tmp_path: Path, content: bytes) -> None:
    shutil.copytree(ROOT / "models" / "arrival_minutes", tmp_path / "arrival_minutes")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "model.yaml").write_bytes(content)
    folder = DeclarationFolder(tmp_path)
    assert (list(folder.valid), list(folder.faults)) == (["arrival_minutes"], ["damaged"])
    with pytest.raises(DeclarationError, match=r"damaged.model\.yaml:\d+:\d+: "):
        declaration_file.load_all(tmp_path)


def test_a_file_that_is_too_large_is_not_read(models: Path) -> None:
    """It would be read in the loop of a process: 50 MiB of YAML take most of a minute."""
    path = declare(models, "arrival_delay", GOOD + "# " + "x" * BYTES_MAX)
    size_bytes = path.stat().st_size
    assert faults_of(models) == [f"{path}:1:1: the file has {size_bytes} bytes, the limit is {BYTES_MAX}"]


def test_the_fault_of_a_folder_whose_name_is_no_text_can_be_printed(tmp_path: Path) -> None:
    damaged = tmp_path / b"m\xff".decode(errors="surrogateescape")
    damaged.mkdir()
    (damaged / "model.yaml").write_text("7")
    folder = DeclarationFolder(tmp_path)
    assert list(folder.faults) == ["m\\udcff"]
    assert folder.faults["m\\udcff"].encode()
