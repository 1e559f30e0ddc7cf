import pytest

from services.rollout import decision_entries, rollout_state
from streams.records import RolloutRequested
from tests.unit.rollout.rollout_model import CHAMPION, NEW, progress

REQUEST = RolloutRequested(
    request_id="r1", model="returned", version=NEW, requested_at_ms=0, reason="by hand", actor="ada"
)


def test_start_names_who_asked() -> None:
    record = rollout_state.started(REQUEST, CHAMPION, at_ms=3, awaits_approval=False)
    draft = decision_entries.draft(record, 7)
    assert draft is not None
    assert (draft.entry_id, draft.actor, draft.at_ms, draft.event_time_ms) == (
        "r1/rollout_start",
        "ada",
        7,
        3,
    )
    assert draft.evidence["champion"] == 1


@pytest.mark.parametrize(
    ("outcome", "kind"), [("promoted", "promotion"), ("rolled_back", "rollback"), ("ended", "rollout_end")]
)
def test_end_is_entered_by_its_outcome(outcome: str, kind: str) -> None:
    record = rollout_state.end("returned", progress(1, 500), CHAMPION, outcome, 9, "why")  # type: ignore[arg-type]
    draft = decision_entries.draft(record, 7)
    assert draft is not None
    assert draft.entry_id == f"r1/{kind}"
    assert draft.evidence["reason"] == "why"


def test_request_is_entered_by_its_writer() -> None:
    assert decision_entries.draft(REQUEST, 7) is None
