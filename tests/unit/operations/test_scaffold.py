import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from services.operations import scaffold
from services.operations.scaffold import ScaffoldError
from services.runtime.declaration_file import load_all
from services.runtime.settings import ROOT

TEMPLATES = ["blank", "payments", "regression"]


def test_templates_are_the_folders_of_examples() -> None:
    assert scaffold.names() == TEMPLATES


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_folder_passes_the_check_at_once(tmp_path: Path, template: str) -> None:
    folder = scaffold.create(tmp_path, "loans_2", template)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    done = subprocess.run(
        [sys.executable, "-m", "services.operations.cli", "check"],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "model loans_2" in done.stdout
    assert "arrival_delay" not in done.stdout, "the models are those of the folder"


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_copy_has_its_own_name_everywhere(tmp_path: Path, template: str) -> None:
    folder = scaffold.create(tmp_path, "loans", template)
    (own,) = load_all(ROOT / "examples" / template / "models")
    assert list(load_all(folder / "models")) == ["loans"]
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert {Path("README.md"), Path(".gitignore"), Path(".env"), Path("models/loans/card.md")} <= found
    assert not [path for path in found if own in str(path) or own in (folder / path).read_text()]


def test_files_that_python_wrote_are_not_copied(tmp_path: Path) -> None:
    template = tmp_path / "small"
    (template / "models" / "own" / "__pycache__").mkdir(parents=True)
    (template / "models" / "own" / "model.yaml").write_text("name: own\n")
    (template / "models" / "own" / "__pycache__" / "training.pyc").write_bytes(b"\xff")
    assert scaffold.contents(template, "new") == {Path("models/new/model.yaml"): b"name: new\n"}


def test_an_empty_folder_is_used_and_another_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    scaffold.create(tmp_path, "empty", "blank")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ScaffoldError, match="exists and is not empty"):
        scaffold.create(tmp_path, "full", "blank")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ScaffoldError, match="exists"):
        scaffold.create(tmp_path, "taken", "blank")


@pytest.mark.parametrize("name", ["Loans", "2loans", "my-loans", "../loans", "", "a" * 64, "loans\n"])
def test_bad_names_are_refused_with_the_rule(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScaffoldError, match="lower case letters, digits and _"):
        scaffold.create(tmp_path, name, "blank")
    assert list(tmp_path.iterdir()) == []


def test_unknown_templates_are_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match="did you mean payments"):
        scaffold.create(tmp_path, "loans", "payment")
    with pytest.raises(ScaffoldError, match="known are blank, payments, regression"):
        scaffold.create(tmp_path, "loans", "xyz")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "parent").write_text("a file")
    with pytest.raises(ScaffoldError, match=r"parent.*cannot be written"):
        scaffold.create(tmp_path / "parent", "loans", "blank")


def test_the_wheel_has_every_file_of_the_templates() -> None:
    """Packages are found with namespaces, so each folder is one; the patterns name the other files."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "examples*" in tools["packages"]["find"]["include"]
    patterns = [*tools["package-data"]["*"], "*.py"]
    for template in TEMPLATES:
        folder = scaffold.TEMPLATES / template
        for path in (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            assert any(path.match(pattern) for pattern in patterns), path
            assert all(part.isidentifier() for part in path.parent.relative_to(scaffold.TEMPLATES).parts), (
                path
            )
