"""The JSON Schema of model.yaml accepts what is read, and refuses what an editor can tell to be wrong."""

from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from ruamel.yaml import YAML

from services.operations.schema_command import document, schema
from services.runtime.settings import ROOT
from tests import project

DECLARED = [
    project.MODEL,
    *(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("models/*/model.yaml"))),
]


def faults(text: str) -> list[str]:
    content = msgspec.json.decode(msgspec.json.encode(YAML(typ="safe").load(text)))
    checker: Any = jsonschema.Draft202012Validator(document())
    return [".".join(map(str, each.absolute_path)) for each in checker.iter_errors(content)]


@pytest.mark.parametrize("text", DECLARED)
def test_a_declaration_that_is_read_is_valid(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("psi_threshold", "psi_treshold", "monitoring"),
        ("task: binary", "task: ordinal", "task"),
        ("amount: float", "amount: double", "request.schema.amount"),
        ("share: 5%", "share: 5", "rollout.steps.1.share"),
        ("owner: payments@example.org", "", ""),
    ],
)
def test_a_mistake_of_key_type_or_bound_is_found(old: str, new: str, place: str) -> None:
    assert old in project.MODEL
    assert faults(project.MODEL.replace(old, new, 1)) == [place]


def test_it_is_written_to_a_file_or_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema(tmp_path / "model.schema.json")
    written = (tmp_path / "model.schema.json").read_text(encoding="utf-8")
    assert "wrote" in capsys.readouterr().out
    schema()
    assert capsys.readouterr().out == written
    assert msgspec.json.decode(written)["title"] == "model.yaml of Driftline"
