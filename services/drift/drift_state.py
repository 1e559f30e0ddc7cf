"""The state of the drift process for one model: its snapshot, and what of an older one still fits. Pure."""

import msgspec
import structlog

from services.drift import evaluator, state_basis
from services.drift.champions import ChampionsState
from services.drift.evaluator import EvaluatorState
from services.drift.windows.window import DriftWindowState, adopt_older_sums
from services.monitoring.input_topics import UNKNOWN_TOPICS, InputTopics
from services.monitoring.label_join import JoinTotals
from services.monitoring.label_settlement import SettlementState
from services.monitoring.pending_predictions import PendingPrediction
from services.monitoring.pending_rebuild import PendingMark
from services.monitoring.waiting_labels import WaitingLabel
from services.runtime.declaration import ModelDeclaration
from streams import records
from streams.inputs import Resume

_log = structlog.get_logger()


class DriftStateError(ValueError):
    """A state has more partitions than its topics, which were deleted and created again."""


class DriftState(msgspec.Struct):
    """All that an engine knows when it has processed everything it took, and where it continues to read."""

    predictions: list[Resume]
    """Where to continue in the predictions, by partition."""
    labels: list[Resume]
    """Where to continue in the labels, by partition."""
    read_to: list[int]
    """Offset after the last prediction processed, by partition."""
    last_offsets: dict[int, int]
    pending: list[PendingPrediction]
    totals: JoinTotals
    window: DriftWindowState | None
    """The open window."""
    closed: list[DriftWindowState]
    """Closed windows that late records may still change."""
    references: list[records.Reference]
    evaluator: EvaluatorState = msgspec.field(name="judge")
    on_disk: PendingMark = msgspec.field(default_factory=PendingMark)
    """The predictions that wait and are not in ``pending``."""
    basis: dict[str, str] = {}
    """What the numbers depend on in the declaration; empty in states of older versions. See `state_basis`."""
    waiting_labels: list[WaitingLabel] = []
    """Labels that came before their prediction."""
    last_offsets_by_source: dict[str, dict[int, int]] = {}
    """The last offsets by request topic, then by partition; see `streams.repeats.RepeatFilter`."""
    newest_offsets: dict[str, dict[int, list[int]]] = {}
    """The offsets above these that were seen, by request topic, then by partition."""
    topics: dict[str, str] = {}
    """Identity of the topics of predictions and labels; see `services.runtime.topic_identity`."""
    champions: ChampionsState = msgspec.field(default_factory=ChampionsState)
    settlement: SettlementState = msgspec.field(default_factory=SettlementState)
    windows_following: int = 0
    """Windows that were opened since the last record, see `Engine`."""


def starting_state(
    declaration: ModelDeclaration,
    prediction_partitions: int,
    label_partitions: int,
    snapshot: DriftState | None = None,
    inputs: InputTopics = UNKNOWN_TOPICS,
) -> DriftState:
    """Return the state before the first record, or a snapshot's, with an entry for each partition.

    Parts of a snapshot that do not fit the declaration any more are reset. Topics that were recreated since
    the snapshot are read from their start. Both are logged.

    Raise `DriftStateError` if the snapshot has more partitions than a topic.
    """
    state = snapshot or DriftState(
        predictions=[],
        labels=[],
        read_to=[],
        last_offsets={},
        pending=[],
        totals=JoinTotals(),
        window=None,
        closed=[],
        references=[],
        evaluator=evaluator.initial_state(),
        basis=state_basis.basis_of(declaration),
    )
    _fit(state, declaration)
    if restarted := inputs.restart_recreated(state, "drift", declaration.name):
        state.on_disk.restart(restarted, state)
        state.read_to = [] if "predictions" in restarted else state.read_to
    for resumes, partitions in ((state.predictions, prediction_partitions), (state.labels, label_partitions)):
        if len(resumes) > partitions:
            raise DriftStateError(
                f"{declaration.name}: the snapshot has {len(resumes)} partitions, its topic {partitions}: "
                "the topic was recreated; delete the snapshot's record to start from the topic's beginning"
            )
        resumes.extend([Resume()] * (partitions - len(resumes)))
    state.read_to += [0] * (prediction_partitions - len(state.read_to))
    return state


def _fit(state: DriftState, declaration: ModelDeclaration) -> None:
    """Reset the parts of a state that depend on what has changed in the declaration."""
    changed = state_basis.changed_parts(state.basis, state.evaluator, declaration)
    now = state_basis.basis_of(declaration)
    for part, before in changed.items():
        _log.warning(
            "drift.part_reset", model=declaration.name, part=part, declared=now[part], in_the_snapshot=before
        )
    windows = [*([state.window] if state.window else []), *state.closed]
    for window in windows:
        adopt_older_sums(window)
    state_basis.reset(changed, declaration, windows, state.pending, state.evaluator)
    if state_basis.values_changed(changed, now):
        state.waiting_labels = []  # the values of these labels have the old meaning
    if state_basis.TASK in changed:  # the predictions on disk have answers of another task, too
        state.on_disk = PendingMark()
