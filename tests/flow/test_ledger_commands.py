"""Commands write the ledger, and `driftline ledger verify` finds what was changed behind its back."""

from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL
from services.model_registry import approvals, ledger, ledger_drafts, models_topic
from services.monitoring import inference_log
from services.operations.governance import approvals_command, ledger_command
from services.operations.models import arm_changes, arms_command
from services.runtime import kafka_producers
from services.runtime.declaration import FILE
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from streams.records import Arm, LedgerEntry, RetrainingRequested
from tests.processes import Process
from tests.waiting import until

GOVERNANCE = """
governance: {approval: required}
rollout: {steps: [{share: shadow}, {share: 5%}]}
"""
Output = Callable[[], str]


@pytest.fixture
def local(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unique_name: str) -> Settings:
    """A declared model without arms, whose versions need an approval."""
    folder = tmp_path / "models" / unique_name
    folder.mkdir(parents=True)
    text = (JOB / "models" / MODEL / FILE).read_text(encoding="utf-8")
    text = text.replace(f"name: {MODEL}", f"name: {unique_name}") + GOVERNANCE
    (folder / FILE).write_text(text, encoding="utf-8")
    local = settings.model_copy(update={"models": tmp_path / "models", "feature_repo": JOB / "feature_repo"})
    for name, value in local.environment().items():
        monkeypatch.setenv(name, value)
    local.home.mkdir()
    installation.write_features(local)
    ensure_topics(local, {})
    return local


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    return lambda: capsys.readouterr().out


def entries(local: Settings, name: str) -> list[LedgerEntry]:
    return [entry for entry in ledger.read(local) if entry.model == name]


def test_version_answers_once_somebody_has_approved_it(
    local: Settings, unique_name: str, output: Output
) -> None:
    version = installation.register(local, installation.train(seed=1), unique_name)
    with pytest.raises(SystemExit, match=f"run 'driftline approve {unique_name} {version} --by NAME"):
        arms_command.champion(unique_name, version=version, by="ada")
    arms_command.shadow(unique_name, "quiet", version=version, by="ada")
    approvals_command.approve(unique_name, version, by="bob", reason="better on all segments")
    arms_command.champion(unique_name, version=version, by="ada")
    found = [(entry.kind, entry.actor, entry.version) for entry in entries(local, unique_name)]
    assert found == [
        ("arms_changed", "ada", 0),
        ("approval", "bob", version),
        ("arms_changed", "ada", version),
    ]
    with pytest.raises(SystemExit, match="was approved by bob"):
        approvals_command.approve(unique_name, version, by="eve", reason="me too")

    approvals_command.reject(unique_name, version, by="eve", reason="biased")
    with pytest.raises(SystemExit, match="was rejected by eve"):
        arms_command.share(unique_name, "new", version=version, share="5%", by="ada")
    with pytest.raises(SystemExit, match=r"was rejected by eve .*: register a new version"):
        approvals_command.approve(unique_name, version, by="bob", reason="again")
    approvals_command.review(unique_name, by="bob", reason="yearly")
    assert approvals.approval_of(ledger.read(local), unique_name, version).state == "rejected"
    output()
    ledger_command.show(unique_name, kind="rejection")
    assert "eve  biased" in (shown := output())
    assert shown.endswith("1 entries, 1 shown\n")


def test_act_of_nobody_or_on_nothing_is_refused(local: Settings, unique_name: str) -> None:
    with pytest.raises(SystemExit, match="give --by NAME"):
        approvals_command.approve(unique_name, 1, by="nobody", reason="good")
    with pytest.raises(SystemExit, match="give --reason TEXT"):
        approvals_command.approve(unique_name, 1, by="ada")
    with pytest.raises(SystemExit, match=f"has no {unique_name} version 7"):
        approvals_command.reject(unique_name, 7, by="ada", reason="bad")
    with pytest.raises(SystemExit, match="there is no model 'absent'"):
        approvals_command.review("absent", by="ada", reason="yearly")
    assert entries(local, unique_name) == []


def test_change_whose_writer_ended_is_recorded_by_the_next_command(
    local: Settings, unique_name: str, output: Output
) -> None:
    """A process that was killed between the change and the entry, or a program that knows no ledger."""
    version = installation.register(local, installation.train(seed=1), unique_name)
    with models_topic.opened(local) as models:
        arms = [Arm(name="champion", version=version, weight=10_000)]
        made = arm_changes.make_change(unique_name, None, arms, reason="lost", from_ms=0, now_ms=0)
        models.publish([made])
    ledger_command.verify()
    assert f"{unique_name}: the present arms are not in the ledger (lost)" in output()

    arms_command.shadow(unique_name, "quiet", version=version, by="ada")
    assert [entry.actor for entry in entries(local, unique_name)] == ["unknown", "ada"]
    assert (
        ledger_drafts.unrecorded(ledger.read(local), {unique_name: models_topic.read(local)[unique_name]})
        == []
    )


def test_verify_compares_the_topic_with_the_table(
    local: Settings, unique_name: str, output: Output, tmp_path: Path
) -> None:
    for number in range(3):
        approvals_command.review(unique_name, by="ada", reason=f"look {number}")
    head = ledger.read(local)[-1].hash
    with Process("archive", local, log=tmp_path / "archive.log") as archive:
        archive.wait_ready()
        commit_archive(local, unique_name)
        until(lambda: archived(local, unique_name) == 3, "the entries are archived")
    output()
    ledger_command.verify(head=head)
    assert f"head {head}" in (shown := output())
    assert "rows as in the topic" in shown

    with pytest.raises(SystemExit, match="no entry has the hash 00ff"):
        ledger_command.verify(head="00ff")
    table = DeltaTable(inference_log.path(local, inference_log.LEDGER))
    table.update(updates={"actor": "'eve'"}, predicate=f"model = '{unique_name}' and number > 1")
    with pytest.raises(SystemExit, match=r"the first fault is entry \d+ .*columns .* differ .*: actor"):
        ledger_command.verify()


def commit_archive(local: Settings, model: str) -> None:
    """Let the archive commit at once what the ledger holds now: a retraining waits for it."""
    with ledger.opened(local) as opened:
        end = opened.chain.number + opened.chain.overtaken + len(opened.chain.faults)
    request = RetrainingRequested(
        request_id=model,
        model=model,
        trigger="manual",
        requested_at_ms=0,
        reason="tests",
        offsets={topics.LEDGER.name: [end]},
    )
    with kafka_producers.connected(local) as producer:
        producer.send(topics.RETRAINING.name, model.encode(), records.encode(request))


def archived(local: Settings, model: str) -> int | None:
    """Return the number of rows of a model in the table; None without a table."""
    path = inference_log.path(local, inference_log.LEDGER)
    if not DeltaTable.is_deltatable(path):
        return None
    return int(DeltaTable(path).to_pyarrow_table(filters=[("model", "=", model)]).num_rows)
