"""What the scoring processes of one model have written and committed, and whether the account is right."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaConsumer, TopicPartition

from services.scoring.arm_router import NO_ARM, ArmRouter
from streams import records
from streams.codec import RepeatFilter
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
        self.answers: dict[str, records.Prediction] = {}
        self.keys: dict[str, str] = {}
        """By prediction, the key of its record."""
        self.repeats = 0
        self.letters: dict[tuple[int, int], records.DeadLetter] = {}
        """By partition and offset of the bad record: behind a crash its letter may come again."""
        self.order: dict[int, list[int]] = {partition: [] for partition in range(partitions)}
        self.committed: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self._requests = requests
        self._repeats = RepeatFilter()
        self._commits = KafkaConsumer(bootstrap_servers=broker, group_id=f"driftline.scoring.{model}")
        self._reader = KafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest")
        self._places = [TopicPartition(predictions(model), partition) for partition in range(partitions)]
        self._places.append(TopicPartition(DEAD_LETTERS.name, 0))
        self._reader.assign(self._places)
        self._decode = msgspec.json.Decoder(records.Prediction).decode
        self._decode_letter = msgspec.json.Decoder(records.DeadLetter).decode

    def close(self) -> None:
        self._commits.close()
        self._reader.close()

    def read(self) -> int:
        """Take in all that is new, commits first; return how many requests are accounted for."""
        committed = self.read_commits()
        ends = self._reader.end_offsets(self._places)
        while any(self._reader.position(place) < end for place, end in ends.items()):
            for fetched in self._reader.poll(timeout_ms=200, max_records=20_000).values():
                for record in fetched:
                    self._take(record)
        for partition, offset in committed.items():
            assert offset <= self._covered(partition), (
                f"partition {partition}: committed up to {offset}, written up to {self._covered(partition)}"
            )
            assert offset >= self.committed[partition], "a commit went back"
        self.committed = committed
        return len(self.answers) + len(self.letters)

    def read_commits(self) -> dict[int, int]:
        """Return by partition the offset that the group has committed, 0 for none."""
        return {
            partition: self._commits.committed(TopicPartition(self._requests, partition)) or 0
            for partition in self.order
        }

    def _covered(self, partition: int) -> int:
        """Return the offset before which every request has its answer or its letter."""
        letters = [offset + 1 for own, offset in self.letters if own == partition]
        return max([offset + 1 for offset in self.order[partition][-1:]] + letters, default=0)

    def _take(self, record: Any) -> None:
        if record.topic == DEAD_LETTERS.name:
            if record.value is not None:  # else a replay's mark
                letter = self._decode_letter(record.value)
                if letter.topic == self._requests:
                    self.letters[letter.partition, letter.offset] = letter
            return
        answer = self._decode(record.value)
        assert answer.source_partition == record.partition
        if self._repeats.is_repeat(answer.source_partition, answer.source_offset):
            self.repeats += 1
            assert answer.prediction_id in self.answers, "what looks like a repeat was never answered"
            return
        assert answer.prediction_id not in self.answers, "one request, two answers that are no repeats"
        self.answers[answer.prediction_id] = answer
        self.keys[answer.prediction_id] = record.key.decode()
        self.order[record.partition].append(answer.source_offset)

    def check(self, sent: int, bad: int) -> None:
        """Compare with what was sent: ``request-0`` and so on, and some bad records in between."""
        assert len(self.letters) == bad
        assert set(self.answers) == {f"request-{number}" for number in range(sent)}
        for partition, offsets in self.order.items():
            letters = [offset for own, offset in self.letters if own == partition]
            # Each offset once, in order, none left out: stricter than rising.
            assert offsets == sorted(set(range(len(offsets) + len(letters))) - set(letters))

    def check_arms(self, numbers: range, models: Sequence[ArmRouter]) -> None:
        """Compare the arm of each of these requests with what its key has in one of these states."""
        ids = [f"request-{number}" for number in numbers]
        keys = [self.keys[id_] for id_ in ids]
        times = np.array([self.answers[id_].event_time_ms for id_ in ids], np.int64)
        allowed = []
        for router in models:
            chosen = router.assign(times, keys, {})
            assert NO_ARM not in chosen
            allowed.append([router.answering[index].name for index in chosen])
        for id_, *names in zip(ids, *allowed, strict=True):
            assert self.answers[id_].arm in names, f"{id_} of {self.keys[id_]}: {self.answers[id_].arm}"
