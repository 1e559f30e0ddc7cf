"""The process's decisions on topics in memory, with a crash before and after each write."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from services.model_registry.approvals import Approval
from services.model_registry.ledger_chain import EntryDraft
from services.rollout import decisions, rollout_arms, rollout_state
from services.rollout.decisions import RolloutDecisions
from services.rollout.rollout_state import ModelRollouts
from services.rollout.step_verdict import StepVerdict
from services.runtime.declaration import ModelDeclaration
from services.runtime.declaration.governance import Governance
from streams.records import Arm, ModelChanged, RolloutEnded, RolloutRecord, RolloutRequested, RolloutStepped
from tests.unit.rollout.rollout_model import CHAMPION, NEW, OLD, START_MS, declaration

MODEL = "returned"
PASSED = StepVerdict("passed", "all is well", [])
WORSE = StepVerdict("worse", "loss is worse", [])
INCONCLUSIVE = StepVerdict("inconclusive", "the maximum hours have passed", [])
REQUEST = RolloutRequested(
    request_id="r1", model=MODEL, version=NEW, requested_at_ms=0, reason="by hand", actor="ada"
)


class CrashError(RuntimeError):
    """The process ends here."""


class RegistryModel:
    """What the registry says of a model."""

    def __init__(self, aliases: Mapping[str, str]) -> None:
        self.aliases = aliases


class Servers:
    """The topics, the ledger and the registry; a crash comes before or after a write of a number."""

    def __init__(self) -> None:
        self.records: list[RolloutRecord] = [REQUEST]
        self.entries: dict[str, EntryDraft] = {}
        self.change = ModelChanged(model=MODEL, arms=list(CHAMPION), changed_at_ms=0, reason="a champion")
        self.aliases = {"champion": str(OLD)}
        self.writes = 0
        self.crash_at: tuple[int, bool] | None = None
        """The number of a write, and whether it is done."""

    def _writing(self, work: Callable[[], object]) -> None:
        number, self.writes = self.writes, self.writes + 1
        if self.crash_at == (number, False):
            raise CrashError
        work()
        if self.crash_at == (number, True):
            raise CrashError

    @property
    def has_crashed(self) -> bool:
        return self.crash_at is None

    @property
    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.entries.values()]

    @property
    def rollouts(self) -> ModelRollouts:
        return rollout_state.fold(self.records)

    def write(self, record: RolloutRecord) -> None:
        self._writing(lambda: self.records.append(record))

    # -- as the ledger

    def enter(self, draft: EntryDraft) -> None:
        if draft.entry_id not in self.entries:
            self._writing(lambda: self.entries.setdefault(draft.entry_id, draft))

    # -- as the models topic

    @property
    def latest(self) -> dict[str, ModelChanged]:
        return {} if not self.change.arms else {MODEL: self.change}

    def publish_on_latest(
        self, model: str, make: Callable[[ModelChanged | None], Sequence[ModelChanged]]
    ) -> Sequence[ModelChanged]:
        changes = make(self.latest.get(model))
        for change in changes:
            self._writing(functools.partial(setattr, self, "change", change))
        return changes

    # -- as the registry

    def get_registered_model(self, _name: str) -> RegistryModel:
        return RegistryModel(dict(self.aliases))

    def get_model_version(self, _name: str, version: str) -> str:
        return version

    def set_registered_model_alias(self, _name: str, alias: str, version: str) -> None:
        self._writing(lambda: self.aliases.update({alias: version}))


class ReadLog:
    """The log as a process has read it when it began, and what it has written since."""

    def __init__(self, rollouts: ModelRollouts) -> None:
        self._rollouts = rollouts

    def of(self, _model: str) -> ModelRollouts:
        return self._rollouts

    def apply(self, record: RolloutRecord) -> None:
        self._rollouts.apply(record)


class Process:
    """A process over these servers, until it crashes."""

    def __init__(
        self, servers: Servers, declared: ModelDeclaration, approval: Callable[[], Approval] = Approval
    ) -> None:
        self.servers, self.declared = servers, declared
        log: Any = ReadLog(servers.rollouts)
        arms: Any = servers
        self.decisions = RolloutDecisions(
            log,
            arms,
            servers.write,
            servers.enter,
            lambda: servers,
            lambda change, _version: change,
            lambda _model, _version: approval(),
        )

    def turn(self, verdict: StepVerdict | None = None, now_ms: int | None = START_MS) -> None:
        self.decisions.pursue(MODEL, self.declared, verdict, now_ms)


@pytest.fixture
def servers() -> Servers:
    return Servers()


def lead(servers: Servers, verdicts: Sequence[StepVerdict], declared: ModelDeclaration) -> None:
    """Run turns until the rollout has ended; begin a new process after each crash."""
    process = Process(servers, declared)
    for turn in range(60):
        rollouts = servers.rollouts
        if rollouts.current is not None and rollouts.current.phase == "ended" and turn:
            process.turn()
            return
        step = -1 if rollouts.current is None else rollouts.current.step
        in_effect = process.decisions.is_in_effect(MODEL)
        verdict = verdicts[step] if step >= 0 and in_effect else None
        try:
            process.turn(verdict, START_MS + turn)
        except CrashError:
            servers.crash_at = None
            process = Process(servers, declared)


def shown(servers: Servers) -> str:
    return rollout_arms.described(servers.change.arms)


def test_rollout_ends_as_champion_and_all_agree(servers: Servers) -> None:
    lead(servers, [PASSED] * 3, declaration())
    assert shown(servers) == "champion 2 10000"
    assert servers.aliases == {"champion": "2", "previous": "1", "challenger": "2"}
    assert [name for name in servers.entries if not name.startswith("arms-")] == [
        "r1/rollout_start",
        "r1/rollout_step/0",
        "r1/rollout_step/1",
        "r1/rollout_step/2",
        "r1/promotion",
    ]


def test_worse_version_is_rolled_back_and_all_agree(servers: Servers) -> None:
    lead(servers, [PASSED, WORSE], declaration())
    assert shown(servers) == "champion 1 10000"
    assert servers.aliases["champion"] == "1"
    assert servers.kinds[-2:] == ["rollback", "arms_changed"]
    assert servers.change.reason == "rollout of version 2: loss is worse"


LATER = msgspec.structs.replace(REQUEST, request_id="r2", version=3)


@pytest.mark.parametrize(
    ("verdicts", "requests", "first", "writes_min"),
    [
        ([PASSED] * 3, [REQUEST], False, 10),
        ([PASSED, PASSED, WORSE], [REQUEST], False, 10),
        ([INCONCLUSIVE], [REQUEST], False, 7),
        ([PASSED] * 3, [LATER, REQUEST], False, 12),
        ([], [REQUEST], True, 6),
        ([], [msgspec.structs.replace(REQUEST, version=OLD)], False, 4),
    ],
    ids=["promoted", "rolled back", "inconclusive", "superseded", "first version", "refused"],
)
def test_crash_before_or_after_any_write_changes_nothing(
    verdicts: list[StepVerdict], requests: list[RolloutRequested], writes_min: int, *, first: bool
) -> None:
    def new() -> Servers:
        servers = Servers()
        servers.records = list(requests)
        if first:
            servers.change, servers.aliases = msgspec.structs.replace(servers.change, arms=[]), {}
        return servers

    calm = new()
    lead(calm, verdicts, declaration())
    assert calm.writes >= writes_min
    for number, is_done in itertools.product(range(calm.writes), [False, True]):
        servers = new()
        servers.crash_at = (number, is_done)
        lead(servers, verdicts, declaration())
        assert servers.has_crashed
        assert shown(servers) == shown(calm)
        # The alias challenger follows later than a verdict that comes with the new process.
        assert servers.aliases in (calm.aliases, without_challenger(calm.aliases))
        assert servers.kinds == calm.kinds
        ends = [each for each in servers.records if isinstance(each, RolloutEnded)]
        assert [each.outcome for each in ends] == [
            each.outcome for each in calm.records if isinstance(each, RolloutEnded)
        ]


def without_challenger(aliases: Mapping[str, str]) -> dict[str, str]:
    return {name: version for name, version in aliases.items() if name != "challenger"}


def begun(servers: Servers) -> Process:
    process = Process(servers, declaration())
    process.turn()
    process.turn()
    assert process.decisions.is_in_effect(MODEL)
    return process


def test_champion_by_hand_ends_a_rollout_and_stays(servers: Servers) -> None:
    process = begun(servers)
    arms = [msgspec.structs.replace(CHAMPION[0], version=7), *servers.change.arms[1:]]
    servers.change = msgspec.structs.replace(
        servers.change, arms=arms, reason="by hand: version 7 is the champion"
    )
    process.turn(PASSED)
    process.turn()
    current = servers.rollouts.current
    assert current is not None
    assert current.outcome == "ended"
    assert "by hand: version 7 is the champion" in current.reason
    assert shown(servers) == "champion 7 10000"
    assert servers.aliases["champion"] == "7"


def test_alias_moved_by_hand_ends_a_rollout_and_is_put_back(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "REGISTRY_SECONDS", 0.0)
    process = begun(servers)
    servers.aliases["champion"] = "9"
    process.turn()
    process.turn()
    current = servers.rollouts.current
    assert current is not None
    assert current.outcome == "ended"
    assert "alias champion to version 9" in current.reason
    assert servers.aliases["champion"] == str(OLD)
    assert shown(servers) == "champion 1 10000"


def test_rollout_waits_for_its_approval(servers: Servers) -> None:
    approvals: list[Approval] = []
    governance = Governance(approval="required")
    declared = declaration().model_copy(update={"governance": governance})
    process = Process(servers, declared, lambda: approvals[-1] if approvals else Approval())
    for _ in range(3):
        process.turn()
    current = servers.rollouts.current
    assert current is not None
    assert current.phase == "awaiting_approval"
    approvals.append(Approval("approved", "ada"))
    process.turn()
    assert shown(servers) == "challenger 2 shadow; champion 1 10000"
    approvals.append(Approval("rejected", "ada", 0, "it is unfair"))
    process.turn()
    process.turn()
    current = servers.rollouts.current
    assert current is not None
    assert current.outcome == "ended"
    assert current.reason == "version 2 was rejected by ada on 1970-01-01: it is unfair"
    assert shown(servers) == "champion 1 10000"


def test_rollout_waits_until_the_time_of_the_stream_is_known(servers: Servers) -> None:
    process = Process(servers, declaration())
    for _ in range(3):
        process.turn(now_ms=None)
    assert shown(servers) == "champion 1 10000"
    process.turn(now_ms=START_MS)
    step = servers.records[-1]
    assert isinstance(step, RolloutStepped)
    assert step.at_ms == START_MS + 1


def test_request_for_the_champion_ends_at_once(servers: Servers) -> None:
    servers.change = msgspec.structs.replace(
        servers.change, arms=[msgspec.structs.replace(CHAMPION[0], version=NEW)]
    )
    process = Process(servers, declaration())
    process.turn()
    current = servers.rollouts.current
    assert current is not None
    assert (current.outcome, current.reason) == ("ended", "version 2 is the champion already")


def test_step_for_which_the_champion_has_too_few_keys_ends_the_rollout(servers: Servers) -> None:
    west = Arm(name="west", version=7, weight=9500)
    arms = [msgspec.structs.replace(CHAMPION[0], weight=500), west]
    servers.change = msgspec.structs.replace(servers.change, arms=arms)
    process = begun(servers)
    process.turn(PASSED)
    current = servers.rollouts.current
    assert current is not None
    assert current.outcome == "ended"
    assert current.reason.startswith("the next step is not possible: challenger cannot get a share of 1000")
    assert shown(servers) == "champion 1 500; west 7 9500"


def test_later_request_supersedes_those_that_wait(servers: Servers) -> None:
    later = msgspec.structs.replace(REQUEST, request_id="r2", version=3)
    servers.records.append(later)
    process = Process(servers, declaration())
    process.turn()
    (ended,) = [each for each in servers.records if isinstance(each, RolloutEnded)]
    assert (ended.rollout_id, ended.outcome) == ("r1", "ended")
    current = servers.rollouts.current
    assert current is not None
    assert current.version == 3


def test_arms_like_those_before_a_rollback_made_later_by_hand_stay(servers: Servers) -> None:
    lead(servers, [PASSED, WORSE], declaration())
    by_hand = [
        Arm(name="champion", version=OLD, weight=9000),
        Arm(name="challenger", version=NEW, weight=1000),
    ]
    servers.change = msgspec.structs.replace(servers.change, arms=by_hand, reason="by hand: 10%")
    Process(servers, declaration()).turn()
    assert shown(servers) == "challenger 2 1000; champion 1 9000"


def test_aliases_follow_arms_that_an_operator_changed_without_a_rollout(servers: Servers) -> None:
    servers.records = []
    servers.change = msgspec.structs.replace(
        servers.change, arms=[msgspec.structs.replace(CHAMPION[0], version=5)]
    )
    Process(servers, declaration()).turn()
    assert servers.aliases == {"champion": "5", "previous": "1"}


def test_registry_that_is_away_delays_no_rollback(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_name: str) -> RegistryModel:
        raise ConnectionError("the registry is away")

    process = begun(servers)
    process.turn(PASSED)
    monkeypatch.setattr(servers, "get_registered_model", away)
    process.turn(WORSE)
    assert shown(servers) == "champion 1 10000"
