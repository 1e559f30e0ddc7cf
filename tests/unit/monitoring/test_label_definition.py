"""The digest of a label's meaning changes with everything that turns a record into a number."""

from typing import Any

import pytest

from services.monitoring.label_definition import label_definition
from services.runtime.declaration import ModelDeclaration
from tests import declaration_changes
from tests.unit.drift import scenario

DOCUMENT = scenario.document()
MEANING = {"task", "classes", "label.value", "label.positive_above"}


def _cases() -> list[Any]:
    found = declaration_changes.changes(DOCUMENT)
    return [pytest.param(path, change, declared, id=f"{path} {number}") for path, each in found.items()
            for number, (change, declared) in enumerate(each)]  # fmt: skip


@pytest.mark.parametrize(("path", "change", "declared"), _cases())
def test_only_what_gives_the_number_its_meaning_changes_the_digest(
    path: str, change: declaration_changes.Change, declared: ModelDeclaration
) -> None:
    is_same = label_definition(declared) == label_definition(scenario.declaration())
    changes_meaning = bool(MEANING & {path, *change}) or "label.schema.y" in change
    assert is_same is not changes_meaning
