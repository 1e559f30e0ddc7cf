import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.operations import cli
from tests.tools import absent

SCRIPT = Path(sys.executable).with_name("driftline")


@pytest.mark.parametrize("command", [[str(SCRIPT)], [sys.executable, "-m", "services.operations.cli"]])
def test_help_is_instant(command: list[str]):
    """It imports nothing but Python's own library and two small modules."""
    if not Path(command[0]).exists():
        absent("the console script is not installed; make setup installs it")
    own = {"services", "services.operations", "services.operations.cli", "streams", "streams.garbage"}
    imported = _imported([*command, "--help"]) - _imported([sys.executable, "-c", "pass"])
    assert {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names} <= own


def test_help_names_every_command_with_its_text(capsys: pytest.CaptureFixture[str], monkeypatch):
    for arguments in ([], ["--help"], ["-h"]):
        monkeypatch.setattr(sys, "argv", ["driftline", *arguments])
        cli.main()
        output = capsys.readouterr().out
        assert all(f"  {name} " in output and text in output for name, _, text in cli.COMMANDS)


def test_command_line_has_every_command():
    for name, _, _ in cli.COMMANDS:
        *parents, own = name.split()
        assert own in functools.reduce(lambda app, parent: app[parent], parents, cli.app)


def test_command_with_commands_below_it_still_runs_by_itself(monkeypatch):
    started = []
    monkeypatch.setattr("services.features.process.run", lambda: started.append("features"))
    with pytest.raises(SystemExit, match="0"):
        cli.application()(["features"])
    assert started == ["features"]


@pytest.mark.parametrize("name", sorted(cli.WITHOUT_OPTIONS))
def test_a_command_whose_help_imports_nothing_has_no_options(name: str):
    module, _, function = next(target for each, target, _ in cli.COMMANDS if each == name).partition(":")
    tree = ast.parse(
        Path(cli.__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py").read_text()
    )
    target = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    assert ast.unparse(target.args) == ""


def test_unknown_command_suggests_the_nearest_and_imports_none(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["driftline", "scorign"])
    with pytest.raises(SystemExit, match="there is no command 'scorign'; did you mean scoring"):
        cli.main()


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str], monkeypatch):
    from importlib.metadata import version

    monkeypatch.setattr(sys, "argv", ["driftline", "--version"])
    cli.main()
    assert capsys.readouterr().out.strip() == version("driftline")


def _imported(command: list[str]) -> set[str]:
    """Run a command; return the names of all modules that it imports."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}
