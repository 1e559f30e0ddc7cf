"""`driftline setup` on real servers: what must stand before the processes start."""

from pathlib import Path

import pytest

from services.feature_store import repository
from services.operations.setup import setup
from services.runtime.declaration_file import load_all
from services.runtime.settings import ROOT, Settings
from streams import topics


@pytest.fixture
def installation(
    settings: Settings, unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """The flights' own declarations, with topics that no other test has, as an operator would set it up."""
    for folder in ("models", "feature_repo"):
        for source in (ROOT / folder).rglob("*"):
            if source.suffix in {".py", ".yaml"}:
                copy = tmp_path / source.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                text = source.read_text(encoding="utf-8")
                for prefix in ("flights", "weather"):
                    text = text.replace(f"{prefix}.", f"{unique_name}.{prefix}.")
                copy.write_text(text, encoding="utf-8")
    changes = {"models": tmp_path / "models", "feature_repo": tmp_path / "feature_repo"}
    for name, value in {**settings.model_dump(include={"broker", "redis_url", "home"}), **changes}.items():
        monkeypatch.setenv(f"DRIFTLINE_{name.upper()}", str(value))
    return settings.model_copy(update=changes)


def topics_of(settings: Settings) -> dict[str, int]:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(**settings.kafka_options())
    try:
        return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
    finally:
        admin.close()


def test_setup_makes_topics_and_plan_and_may_be_repeated(
    installation: Settings, unique_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    setup()
    said = "".join(capsys.readouterr())
    assert "does not exist: its features will be missing until the next setup" in said

    plan = repository.load(installation)
    model = next(one for one in load_all(installation.models).values() if one.is_retrained)
    expected = {model.request.topic, model.label.topic, *plan.by_topic(), topics.predictions(model.name)}
    expected |= {topics.repartition(view.name) for view in plan.views if view.is_repartitioned}
    found = topics_of(installation)
    assert expected <= found.keys()
    assert len([name for name in found if name.startswith(unique_name)]) == 4
    assert found[topics.MODELS.name] == 1

    setup()
    assert capsys.readouterr().out == said
    assert topics_of(installation) == found


def test_setup_of_the_registry_alone_needs_no_server(
    installation: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_BROKER", "127.0.0.1:1")
    setup(registry_only=True)
    assert repository.load(installation).service("arrival_delay").feature_names


def test_setup_without_a_broker_says_where_it_looked(
    installation: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kafka.errors import KafkaTimeoutError

    def unreachable(*_: object, **__: object) -> None:
        raise KafkaTimeoutError("no answer")

    monkeypatch.setattr("services.operations.setup.ensure_topics", unreachable)
    with pytest.raises(SystemExit, match=rf"{installation.broker}: KafkaTimeoutError: no answer.*--connect"):
        setup()
