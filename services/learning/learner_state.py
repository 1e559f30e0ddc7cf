"""What a learner knows between two steps, as a checkpoint holds it. Pure."""

import msgspec

from services.learning.arms_update import Announcement
from services.monitoring.input_topics import UNKNOWN_TOPICS, InputTopics
from services.monitoring.label_join import JoinTotals
from services.monitoring.label_settlement import SettlementState
from services.monitoring.pending_predictions import PendingPrediction
from services.monitoring.pending_rebuild import PendingMark
from services.monitoring.waiting_labels import WaitingLabel
from streams import records
from streams.inputs import Resume


class LearnerStateError(ValueError):
    """A checkpoint does not fit the topics, because they were recreated: its offsets mean nothing now."""


class Lesson(msgspec.Struct, array_like=True, gc=False):
    """One labelled request of the open interval."""

    label_time_ms: int
    prediction_id: str
    label: float
    features: list[records.FeatureValue]
    correction: int = 0
    """0: the first label of its request; above: a later one, see `records.Outcome.correction`."""
    request_time_ms: int = 0
    """Event time of the request: after the horizon an id may be used again."""
    score: float | None = None
    """The champion's, as served; null if another arm has answered, and in checkpoints of older versions."""


class KnownRow(msgspec.Struct, array_like=True, gc=False):
    """One labelled prediction of the rows from which the reference is made."""

    event_time_ms: int
    prediction_id: str
    label: float
    score: float
    features: list[records.FeatureValue]


class GateState(msgspec.Struct, array_like=True):
    """What the gate of learned versions remembers, see `services.learning.version_gate`."""

    remembered: list[Lesson] = []
    """Rows of earlier intervals, in the order in which they were learned."""
    contradicted: int = 0
    """Number of versions in a row that failed on the remembered rows."""
    refused: bool | None = None
    """Whether the last version was refused; null before the first."""


class LearningCounts(msgspec.Struct):
    """Running totals of joined labels since the first event; the join counts the others."""

    learned: int = 0
    relearned: int = 0
    """Corrections of a label that was learned in an earlier interval: its request is learned once more."""
    failed: int = 0
    """The estimator raised an error: the label is left out."""
    unfit: int = 0
    """The features that the model got for the request are not known, or were defined otherwise than now."""
    redefined: int = 0
    """Predictions of which a feature was defined otherwise than now."""


class LearnerState(msgspec.Struct):
    """All that a learner knows when every record taken has been processed, and where to resume reading."""

    predictions: list[Resume] = []
    """Offsets and times of the predictions by partition."""
    labels: list[Resume] = []
    """Offsets and times of the labels by partition."""
    last_offsets: dict[int, int] = {}
    pending: list[PendingPrediction] = []
    waiting_labels: list[WaitingLabel] = []
    """Labels that came before their prediction."""
    totals: JoinTotals = msgspec.field(default_factory=JoinTotals)
    counts: LearningCounts = msgspec.field(default_factory=LearningCounts)
    first_ms: int | None = None
    """The start of the first interval."""
    interval_end_ms: int | None = None
    lessons: list[Lesson] = []
    losses: tuple[int, float] = (0, 0.0)
    """Number and sum of the losses of predictions whose label came in the open interval."""
    learned: list[Announcement] = []
    """The latest published versions, at most `arms_update.KEPT_MAX`."""
    estimator: bytes | None = None
    """The estimator at the end of the last interval; None before the first."""
    names: list[str] = []
    """The features of ``pending`` and ``lessons``, in order; empty in checkpoints of older versions."""
    settlement: SettlementState = msgspec.field(default_factory=SettlementState)
    last_offsets_by_source: dict[str, dict[int, int]] = {}
    """The last offsets by request topic, then by partition; see `streams.repeats.RepeatFilter`."""
    newest_offsets: dict[str, dict[int, list[int]]] = {}
    """The offsets above these that were seen, by request topic, then by partition."""
    topics: dict[str, str] = {}
    """Identity of the topics of predictions and labels; see `services.runtime.topic_identity`."""
    on_disk: PendingMark = msgspec.field(default_factory=PendingMark)
    """The predictions that wait and are not in ``pending``."""
    known_rows: list[KnownRow] = []
    """The rows of the reference so far, by event time; see `reference_period`."""
    reference: records.Reference | None = None
    """The reference, once its rows are complete."""
    basis: dict[str, str] = {}
    """What the rest depends on in the declaration, see `learner_basis`."""
    gate: GateState = msgspec.field(default_factory=GateState)


def fresh_state(
    model: str,
    prediction_partitions: int,
    label_partitions: int,
    state: LearnerState | None = None,
    inputs: InputTopics = UNKNOWN_TOPICS,
) -> LearnerState:
    """Return the state before the first record, or a checkpoint's, with an entry for each partition.

    Topics that are not those of the checkpoint are read from their start, which is logged.

    Raises `LearnerStateError` if the checkpoint has more partitions than the topic.
    """
    state = state or LearnerState()
    if restarted := inputs.restart_recreated(state, "learning", model):
        state.on_disk.restart(restarted, state)
    for resumes, partitions in ((state.predictions, prediction_partitions), (state.labels, label_partitions)):
        if len(resumes) > partitions:
            raise LearnerStateError(
                f"{model}: the checkpoint has {len(resumes)} partitions, but its topic has {partitions}: "
                "the topic was recreated, so delete the checkpoint to start from the topic's beginning"
            )
        resumes.extend([Resume()] * (partitions - len(resumes)))
    return state
