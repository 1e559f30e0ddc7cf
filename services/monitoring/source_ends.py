"""How far the source offsets of predictions can be: none is at or after the end of its request partition.

More than `streams.repeats.NEWEST_MAX` forged predictions with such offsets would make the valid predictions
after them count as repeats. One request to the broker serves `LEAD_MAX` predictions.
"""

import sys
from collections.abc import Callable

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from services.runtime import topic_identity
from services.runtime.kafka_consumers import topic_id
from streams.json_decoder import InvalidRecordError
from streams.records import Prediction

LEAD_MAX = 1000
"""Number of records by which an offset may be ahead of the end of which the broker has told last."""
UNLIMITED = sys.maxsize
FindEnd = Callable[[int], int | None]
"""Return the end offset of a request partition, asked after the predictions were read; None if unknown."""

_log = structlog.get_logger()


class SourceEnds:
    """The ends of the partitions of one request topic, as far as the broker was asked."""

    def __init__(self, source: str, find_end: FindEnd) -> None:
        """Take the digest that predictions name this topic by, and what asks for an end."""
        self.source = source
        self._find_end = find_end
        self._limits: dict[int, int] = {}
        self._found: int | None = None
        self._was_asked = False

    def begin_slice(self, partition: int) -> int:
        """Begin with predictions of a partition that were read together.

        Returns the offset from which `check` has to be called.
        """
        self._was_asked = False
        return self._limits.get(partition, 0)

    def check(self, prediction: Prediction) -> int:
        """Raise `InvalidRecordError` for an offset that no request has; return the next limit.

        A prediction of another request topic, such as one before it was recreated, is not checked.
        """
        partition, offset = prediction.source_partition, prediction.source_offset
        if prediction.source != self.source:
            return self._limits.get(partition, 0)
        if not self._was_asked:  # all of them were read before
            self._found, self._was_asked = self._find_end(partition), True
        end = self._found
        if end is not None and offset >= end:
            raise InvalidRecordError(
                f"the prediction names offset {offset} of request partition {partition}, which ends at "
                f"{end}: find its writer"
            )
        self._limits[partition] = UNLIMITED if end is None else end + LEAD_MAX
        return self._limits[partition]


def of_topic(consumer: KafkaConsumer, topic: str) -> SourceEnds:
    """Return the ends of a request topic; unlimited if it does not exist or may not be read here."""

    def find_end(partition: int) -> int | None:
        if partition not in (consumer.partitions_for_topic(topic) or ()):
            return None
        place = TopicPartition(topic, partition)
        try:
            return int(consumer.end_offsets([place])[place])
        except KafkaError as error:  # such as a topic that was just deleted: predictions can still be read
            _log.warning("requests.end_unknown", topic=topic, partition=partition, error=repr(error))
            return None

    consumer.partitions_for_topic(topic)  # asks for the topic, which may be unknown here
    identity = topic_identity.identity(topic, topic_id(consumer, topic))
    return SourceEnds(topic_identity.source_of(identity), find_end)
