"""Which processes an installation has."""

from pathlib import Path
from typing import Any

import pytest

from services.operations.installation_processes import PROCESSES, launch, needed
from services.runtime.settings import Settings
from tests.unit.runtime.test_declaration import declared, document

ALWAYS = {"scoring", "drift", "archive", "dashboard"}


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({}, set()),
        ({"features": {"service": "s"}}, {"features"}),
        ({"learning": {}}, {"learning"}),
        ({"gates": {"floor": 1}}, {"retraining", "rollout"}),
        ({"rollout": {"steps": [{"share": "5%"}]}}, {"rollout"}),
        ({"alerts": {"routes": [{"to": "team"}]}}, {"alerting"}),
    ],
)
def test_the_models_decide_which_processes_are_needed(changes: dict[str, Any], more: set[str]) -> None:
    found = needed({"m": declared(document(**changes))}, has_destinations=True)
    assert set(found) == ALWAYS | more
    assert list(found) == [name for name in PROCESSES if name in found]


def test_without_destinations_nobody_is_alerted() -> None:
    model = declared(document(alerts={"routes": [{"to": "team"}]}))
    assert "alerting" not in needed({"m": model}, has_destinations=False)


def test_every_process_can_be_started(tmp_path: Path) -> None:
    for name in PROCESSES:
        assert launch(name, Settings(), tmp_path).log == tmp_path / f"{name}.log"
