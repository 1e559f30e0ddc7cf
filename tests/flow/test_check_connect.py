"""`driftline check --connect` against the real servers."""

from services.operations.server_probes import unreachable_servers
from services.runtime.settings import Settings


def test_servers_that_answer_are_each_confirmed(settings: Settings) -> None:
    well, faults = unreachable_servers(settings)
    assert faults == []
    assert [line.split()[0] for line in well] == ["Kafka", "Redis", "MLflow"]
