"""A version of a model that learns online must be in the learned topic."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from services.model_registry import learned_versions
from services.operations.models import version_check
from services.operations.models.arm_changes import ChangeError
from services.runtime import kafka_consumers
from services.runtime.large_records import LargeRecordError
from services.runtime.settings import Settings
from streams import records
from tests.unit.learning import traffic


def learned(version: int) -> bytes:
    return records.encode(
        records.LearnedModel(model="m", version=version, interval_end_ms=0, labels=1, estimator=b"")
    )


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A model that learns online, whose topic holds version 3."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.yaml").write_text(traffic.as_yaml("m"), encoding="utf-8")
    held = {learned_versions.key("m", 3): (7, learned(3))}
    monkeypatch.setattr(kafka_consumers, "connect", lambda *_: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(
        kafka_consumers, "latest_values", lambda _, __, keys: {key: held[key] for key in keys if key in held}
    )
    return Settings().model_copy(update={"models": tmp_path})


def test_version_in_the_topic_is_accepted(settings: Settings) -> None:
    version_check.check_version(settings, "m", 3)


@pytest.mark.parametrize("version", [4, 3 + learned_versions.KEYS, 3 - learned_versions.KEYS])
def test_version_that_is_absent_or_replaced_is_refused(settings: Settings, version: int) -> None:
    """A later version has the key of the one that it replaced."""
    with pytest.raises(ChangeError, match=f"version {version} is not, or no longer, in"):
        version_check.check_version(settings, "m", version)


def test_version_whose_parts_are_being_replaced_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def incomplete(*_: object) -> None:
        raise LargeRecordError("not complete")

    monkeypatch.setattr(kafka_consumers, "latest_values", incomplete)
    with pytest.raises(ChangeError, match="version 3 is not, or no longer, in"):
        version_check.check_version(settings, "m", 3)
