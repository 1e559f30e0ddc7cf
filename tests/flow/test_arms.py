"""``driftline models`` changes the arms of a model, on a real broker and a real registry."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL
from services.model_registry import models_topic
from services.model_registry.models_topic import OvertakenError
from services.operations.models import arm_changes, arms_command
from services.runtime.declaration import FILE
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams.records import Arm, ModelChanged

Output = Callable[[], str]


@pytest.fixture
def local(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unique_name: str) -> Settings:
    """A declared model without arms."""
    folder = tmp_path / "models" / unique_name
    folder.mkdir(parents=True)
    text = (JOB / "models" / MODEL / FILE).read_text(encoding="utf-8")
    (folder / FILE).write_text(text.replace(f"name: {MODEL}", f"name: {unique_name}"), encoding="utf-8")
    changes = {"models": tmp_path / "models", "feature_repo": JOB / "feature_repo"}
    local = settings.model_copy(update=changes)
    for name, value in local.environment().items():
        monkeypatch.setenv(name, value)
    local.home.mkdir()
    installation.write_features(local)
    ensure_topics(local, {})
    return local


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    return lambda: capsys.readouterr().out


def arms(local: Settings, name: str) -> list[tuple[str, int, int, bool]]:
    latest = models_topic.read(local)
    found = latest[name].arms if name in latest else []
    return [(arm.name, arm.version, arm.weight, arm.shadow) for arm in found]


def test_arms_are_declared_changed_shown_and_ended(local: Settings, unique_name: str, output: Output) -> None:
    first, second = (installation.register(local, installation.train(seed), unique_name) for seed in (1, 2))
    arms_command.champion(unique_name, version=first)
    assert arms(local, unique_name) == [("champion", first, 10_000, False)]
    output()
    arms_command.share(unique_name, "new", version=second, share="5%", dry_run=True)
    assert "would be" in (shown := output())
    assert "95%" in shown
    assert arms(local, unique_name) == [("champion", first, 10_000, False)]
    arms_command.share(unique_name, "new", version=second, share="500", since="2026-01-01T00:00:00Z")
    arms_command.shadow(unique_name, "quiet", version=second)
    output()
    arms_command.show(unique_name)
    assert [line.split()[:3] for line in output().splitlines()[2:]] == [
        ["champion", str(first), "100%"],
        ["champion", str(first), "95%"],
        ["new", str(second), "5%"],
        ["quiet", str(second), "shadow"],
    ]
    arms_command.share(unique_name, "west", version=second, share="40%", segment=["user_id=user-1,user-2"])
    arms_command.end(unique_name, "new")
    arms_command.shadow(unique_name, "quiet", remove=True)
    assert arms(local, unique_name)[-2:] == [("new", second, 0, False), ("champion", first, 10_000, False)]


def test_an_impossible_change_is_an_error_and_nothing_is_written(local: Settings, unique_name: str) -> None:
    with pytest.raises(SystemExit, match=f"has no {unique_name} version 7"):
        arms_command.champion(unique_name, version=7)
    version = installation.register(local, installation.train(seed=1), unique_name)
    with pytest.raises(SystemExit, match="the champion has only 0 left"):
        arms_command.share(unique_name, "new", version=version, share="5%")
    with pytest.raises(SystemExit, match="no field 'carrier'"):
        arms_command.share(unique_name, "new", version=version, share="5%", segment=["carrier=UA"])
    with pytest.raises(SystemExit, match="either --version or --remove"):
        arms_command.shadow(unique_name, "quiet")
    with pytest.raises(SystemExit, match=f"{unique_name} has no arms yet"):
        arms_command.show(unique_name)
    assert arms(local, unique_name) == []


def test_change_by_somebody_else_since_the_read_is_an_error(local: Settings, unique_name: str) -> None:
    """It may come before the write, which is then left out, or between the check and the write."""

    def change(reason: str) -> ModelChanged:
        champion = [Arm(name="champion", version=1, weight=10_000)]
        return arm_changes.make_change(unique_name, None, champion, reason=reason, from_ms=0, now_ms=0)

    with models_topic.opened(local) as ours, models_topic.opened(local) as theirs:
        theirs.publish([change("theirs")])
        with pytest.raises(OvertakenError, match=r"nothing was written, because .* \('theirs', offset"):
            ours.publish([change("ours")])
    assert models_topic.read(local)[unique_name].reason == "theirs"

    with models_topic.opened(local) as theirs:

        def overtaken(batch: Sequence[models_topic.KeyedRecord]) -> None:
            theirs.publish([change("theirs again")])
            models_topic.connected_send(local)(batch)

        with models_topic.opened(local, send=overtaken) as ours:
            with pytest.raises(OvertakenError, match="was written, but is not based on the latest arms"):
                ours.publish([change("ours")])
            assert ours.latest[unique_name].reason == "theirs again", "ours is later, but does not include it"
