"""Whether a prediction or an outcome is of the partition that holds it. Pure.

Readers take its model, its source partition and its source offset as given: they are the order of the records
and tell repeats. Anybody may write into the topic, by mistake as well.
"""

import msgspec

from streams.json_decoder import InvalidRecordError
from streams.records import ASKED_OVER_HTTP, Outcome, Prediction

PARTITION_BITS = 15
"""See `outcome_source`."""


class PredictionHead(msgspec.Struct, gc=False):
    """What is read of a prediction that is passed over: a third of the work."""

    prediction_id: str
    model: str
    event_time_ms: int
    source_partition: int
    source_offset: int


def check_prediction(prediction: Prediction | PredictionHead, model: str, partition: int) -> None:
    """Raise `InvalidRecordError` unless a prediction may be in a partition of the predictions of a model.

    It has the partition number of its request. One that was requested over HTTP has neither partition nor
    offset.
    """
    _check_model("prediction", prediction.model, model)
    number = prediction.source_partition
    _check_source("prediction", number, prediction.source_offset, number, partition)


def check_outcome(outcome: Outcome, model: str, partition: int) -> None:
    """Raise `InvalidRecordError` unless an outcome may be in a partition of the outcomes of a model.

    It has the partition number of its label.
    """
    _check_model("outcome", outcome.model, model)
    number = outcome.source_partition
    home = number if number >= 0 else (-2 - number) >> PARTITION_BITS
    _check_source("outcome", number, outcome.source_offset, home, partition)


def outcome_source(label_partition: int, prediction_partition: int) -> int:
    """Return the source partition of the outcome of a label that has waited for its prediction.

    >>> outcome_source(0, 0), outcome_source(1, 2)
    (-2, -32772)
    """
    return -2 - ((label_partition << PARTITION_BITS) + prediction_partition)


def _check_model(what: str, found: str, model: str) -> None:
    if found != model:
        raise InvalidRecordError(
            f"the {what} names the model {found!r}, but its topic belongs to the model {model!r}: find the "
            "process that wrote it"
        )


def _check_source(what: str, number: int, offset: int, home: int, partition: int) -> None:
    if (number, offset) == (ASKED_OVER_HTTP, ASKED_OVER_HTTP):
        return
    if number == ASKED_OVER_HTTP or home != partition or offset < 0:
        raise InvalidRecordError(
            f"the {what} names source partition {number} and offset {offset}, which is impossible in "
            f"partition {partition}: find the process that wrote it"
        )
