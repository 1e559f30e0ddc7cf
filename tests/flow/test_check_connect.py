"""`driftline check --connect` against the real servers."""

import pytest

from services.operations.check import unreachable_servers
from services.runtime.settings import Settings


def test_servers_that_answer_are_each_confirmed(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unreachable_servers(settings) == []
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["Kafka", "Redis", "MLflow"]
