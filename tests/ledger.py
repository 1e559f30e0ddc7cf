"""A ledger of what the scoring processes of one model wrote and committed, which it checks."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaConsumer, TopicPartition

from services.scoring.arm_router import NO_ARM, ArmRouter
from streams import records
from streams.repeats import RepeatFilter
from streams.topics import DEAD_LETTERS, predictions


class Ledger:
    """Reads all predictions, dead letters and commits of a model; checks order and commits as it goes.

    Args:
        broker: The address of Kafka.
        model: Its name.
        requests: Its request topic.
        partitions: Of that topic.
    """

    def __init__(self, broker: str, model: str, requests: str, partitions: int) -> None:
        self.predictions: dict[str, records.Prediction] = {}
        self.keys: dict[str, str] = {}
        """The key of each prediction's record, by prediction id."""
        self.repeats = 0
        self.letters: dict[tuple[int, int], records.DeadLetter] = {}
        """Dead letters by partition and offset of the invalid record; a crash may repeat a letter."""
        self.order: dict[int, list[int]] = {partition: [] for partition in range(partitions)}
        self.committed: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self._requests = requests
        self._repeats = RepeatFilter()
        self._commits = KafkaConsumer(bootstrap_servers=broker, group_id=f"driftline.scoring.{model}")
        self._reader = KafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest")
        self._partitions = [TopicPartition(predictions(model), partition) for partition in range(partitions)]
        self._partitions.append(TopicPartition(DEAD_LETTERS.name, 0))
        self._reader.assign(self._partitions)
        self._decode = msgspec.json.Decoder(records.Prediction).decode
        self._decode_letter = msgspec.json.Decoder(records.DeadLetter).decode

    def close(self) -> None:
        self._commits.close()
        self._reader.close()

    def read(self) -> int:
        """Read all new commits and then records; return the number of requests accounted for."""
        committed = self.read_commits()
        ends = self._reader.end_offsets(self._partitions)
        while any(self._reader.position(each) < end for each, end in ends.items()):
            for fetched in self._reader.poll(timeout_ms=200, max_records=20_000).values():
                for record in fetched:
                    self._take(record)
        for partition, offset in committed.items():
            assert offset <= self._covered(partition), (
                f"partition {partition}: committed up to {offset}, written up to {self._covered(partition)}"
            )
            assert offset >= self.committed[partition], "a commit went back"
        self.committed = committed
        return len(self.predictions) + len(self.letters)

    def read_commits(self) -> dict[int, int]:
        """Return the offset that the group has committed, by partition; 0 for none."""
        return {
            partition: self._commits.committed(TopicPartition(self._requests, partition)) or 0
            for partition in self.order
        }

    def _covered(self, partition: int) -> int:
        """Return the offset before which every request has its prediction or its dead letter."""
        letters = [offset + 1 for number, offset in self.letters if number == partition]
        return max([offset + 1 for offset in self.order[partition][-1:]] + letters, default=0)

    def _take(self, record: Any) -> None:
        if record.topic == DEAD_LETTERS.name:
            if record.value is not None:  # else the mark of a replay
                letter = self._decode_letter(record.value)
                if letter.topic == self._requests:
                    self.letters[letter.partition, letter.offset] = letter
            return
        prediction = self._decode(record.value)
        assert prediction.source_partition == record.partition
        if self._repeats.is_repeat(prediction.source_partition, prediction.source_offset):
            self.repeats += 1
            assert prediction.prediction_id in self.predictions, "a repeat without a first prediction"
            return
        assert prediction.prediction_id not in self.predictions, "two predictions for one request"
        self.predictions[prediction.prediction_id] = prediction
        self.keys[prediction.prediction_id] = record.key.decode()
        self.order[record.partition].append(prediction.source_offset)

    def check(self, sent: int, bad: int) -> None:
        """Compare with what was sent: ``request-0`` and so on, and ``bad`` invalid records in between."""
        assert len(self.letters) == bad
        assert set(self.predictions) == {f"request-{number}" for number in range(sent)}
        for partition, offsets in self.order.items():
            letters = [offset for number, offset in self.letters if number == partition]
            # Each offset exactly once and in order: stricter than ascending.
            assert offsets == sorted(set(range(len(offsets) + len(letters))) - set(letters))

    def check_arms(self, numbers: range, models: Sequence[ArmRouter]) -> None:
        """Check that each of these requests has the arm of its key in one of these states."""
        ids = [f"request-{number}" for number in numbers]
        keys = [self.keys[id_] for id_ in ids]
        times = np.array([self.predictions[id_].event_time_ms for id_ in ids], np.int64)
        allowed = []
        for router in models:
            chosen = router.assign(times, keys, {})
            assert NO_ARM not in chosen
            allowed.append([router.answering[index].name for index in chosen])
        for id_, *names in zip(ids, *allowed, strict=True):
            assert self.predictions[id_].arm in names, (
                f"{id_} of {self.keys[id_]}: {self.predictions[id_].arm}"
            )
