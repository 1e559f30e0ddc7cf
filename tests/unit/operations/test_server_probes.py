"""A server that does not respond is a fault, whatever its address is."""

from pathlib import Path

import pytest

from services.operations import server_probes
from services.runtime.settings import Settings


def test_an_address_that_is_none_is_a_fault_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_probes, "ANSWER_SECONDS_MAX", 0.5)
    settings = Settings(
        broker="127.0.0.1:1",
        redis_url="not a url",
        mlflow_uri="http://[broken",
        home=tmp_path,
        _env_file=None,
    )
    assert len(server_probes.unreachable_servers(settings)[1]) == 3
