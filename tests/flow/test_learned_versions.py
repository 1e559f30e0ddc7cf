"""On real servers: wrong labels reach no champion, and an operator's rollback holds until the release."""

from pathlib import Path

import pytest

from services.model_registry import ledger, traffic_split
from services.operations.models import rollout_command
from services.runtime.settings import Settings
from streams.records import ModelChanged
from tests.online_learning import PIECES, changes, published, send, wait_for_watermark, with_model
from tests.processes import Process
from tests.unit.learning import traffic
from tests.unit.learning.traffic import HOUR_MS, START_MS
from tests.waiting import until

HOURS = 60
POISONED = range(40, 44)
"""Two intervals of wrong labels; predictions have scores from hour 30 on."""
RELEASED_MS = START_MS + 50 * HOUR_MS
LEARNING = traffic.document()["learning"]


@pytest.fixture
def local(
    kafka: str,
    valkey: str,
    http_ports: dict[str, int],
    tmp_path: Path,
    unique_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    settings = Settings().model_copy(
        update={"broker": kafka, "redis_url": valkey, "home": tmp_path / "home", **http_ports}
    )
    settings = with_model(settings, tmp_path / "models", unique_name, LEARNING)
    for variable, value in settings.environment().items():
        monkeypatch.setenv(variable, value)
    return settings


def champions(found: list[ModelChanged]) -> set[int]:
    return {arm.version for each in found for arm in each.arms if traffic_split.is_champion(arm)}


def wait_for_end(local: Settings, name: str, process: Process) -> None:
    wait_for_watermark(local, name, START_MS + (HOURS + 8) * HOUR_MS, process)


def test_versions_of_wrong_labels_do_not_become_the_champion(
    local: Settings, unique_name: str, tmp_path: Path
) -> None:
    logs = traffic.with_wrong_labels(traffic.traffic(HOURS, a_hour=100, name=unique_name), POISONED)
    straight = traffic.play(traffic.new_learner(name=unique_name), logs)
    verdicts = [each for step in straight for each in step.verdicts]
    refused = {each.version for each in verdicts if not each.report.passed}
    with Process("learning", local, log=tmp_path / "learning.log") as learning:
        for number in range(PIECES):
            send(local, unique_name, logs, number)
            learning.kill()
            learning.start()
        wait_for_end(local, unique_name, learning)
        assert learning.stop() == 0

    assert refused >= {21, 22}  # of the intervals that end in hours 42 and 44
    assert champions(changes(local, unique_name)) == {each.version for each in verdicts} - refused
    assert max(each.version for each in verdicts) not in refused
    entries = [each for each in ledger.read(local) if each.model == unique_name and each.kind == "gate"]
    assert [each.version for each in entries] == [each.version for each in verdicts if each.is_news]
    assert entries[1].evidence["gates"][1]["outcome"] == "failed"
    assert "learning.version_judged" in learning.output()


def test_rollback_holds_through_restarts_and_a_changed_declaration_until_the_release(
    local: Settings, unique_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = traffic.traffic(HOURS, a_hour=100, name=unique_name)
    declaration = local.models / unique_name / "model.yaml"
    with Process("learning", local, log=tmp_path / "learning.log") as learning:
        for number in range(3):
            send(local, unique_name, logs, number)
        until(
            lambda: len(champions(changes(local, unique_name))) > 5,
            "versions become the champion",
            check=learning.check,
        )
        learning.kill()
        back = sorted(champions(changes(local, unique_name)))[-2]
        since = traffic.utc(START_MS + 2 * HOUR_MS)
        rollout_command.rollback(unique_name, version=back, since=since, by="ada")
        assert f"until 'driftline models release {unique_name}'" in capsys.readouterr().out
        held = changes(local, unique_name)[-1]
        seen: list[int] = []

        changed = LEARNING | {"effective_after_hours": 4, "every_hours": 1, "gates": {"tolerance": 0.5}}
        declaration.write_text(traffic.as_yaml(unique_name, learning=changed))
        learning.start()
        for number in range(3, PIECES - 1):
            send(local, unique_name, logs, number)
            seen.append(len(published(local, unique_name)))
            until(
                lambda: len(published(local, unique_name)) > seen[-1] + 5,
                "learning goes on",
                check=learning.check,
            )
            learning.kill()
            learning.start()
        assert changes(local, unique_name)[-1] == held

        rollout_command.release(unique_name, since=traffic.utc(RELEASED_MS), by="ada")
        send(local, unique_name, logs, PIECES - 1)
        wait_for_end(local, unique_name, learning)
        assert learning.stop() == 0

    latest = changes(local, unique_name)[-1].arms
    assert traffic_split.champion_version(latest) == max(
        each.version for each in published(local, unique_name)
    )
    first = changes(local, unique_name)
    released = first[first.index(held) + 1 :]
    assert traffic_split.champion_version(released[1].arms, RELEASED_MS - 1) == back
    assert (traffic_split.champion_version(released[1].arms, RELEASED_MS) or 0) > back
    entries = [each for each in ledger.read(local) if each.model == unique_name]
    acts = [(each.kind, each.actor) for each in entries if each.actor != "learning"]
    assert acts == [("arms_changed", "ada"), ("rollback", "ada"), ("arms_changed", "ada")]
    with pytest.raises(SystemExit, match="is not held"):
        rollout_command.release(unique_name, by="ada")
