"""The topics of one model on a real broker: write its logs, read what the drift process wrote."""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import redis
from kafka import KafkaConsumer, TopicPartition

from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from streams.inputs import PREDICTION
from streams.producer import BatchProducer, Record
from streams.repeats import RepeatFilter
from tests.marks import read_marks
from tests.snapshots import snapshots_of
from tests.unit.drift import scenario
from tests.unit.drift.scenario import Entry
from tests.waiting import until

PARTITIONS = 2


class DriftTopics:
    """The topics of one model, which no other test uses."""

    def __init__(self, settings: Settings, name: str, folder: Path, **monitoring: Any) -> None:
        self._connect(settings, name)
        self.document = scenario.document(name, **monitoring)
        path = folder / "models" / name / "model.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(self.document))  # JSON is YAML
        self.settings = settings.model_copy(update={"models": folder / "models", "partitions": PARTITIONS})
        ensure_topics(self.settings, load_all(self.settings.models))

    @classmethod
    def of_declared(cls, settings: Settings, name: str) -> Self:
        """Return those of a model that is declared already, and whose topics exist."""
        made = cls.__new__(cls)
        made._connect(settings, name)
        return made

    def _connect(self, settings: Settings, name: str) -> None:
        self.name, self.settings = name, settings
        self.label_topic = f"{name}.labels"
        self._redis = redis.Redis.from_url(settings.redis_url)

    def send_model(self) -> None:
        """Promote version 1."""
        value = records.encode(scenario.model_changed(name=self.name))
        self._send({(topics.MODELS.name, 0): [(self.name.encode(), value, [])]})

    def send_request(self, request: records.RetrainingRequested) -> None:
        self._send({(topics.RETRAINING.name, 0): [(self.name.encode(), records.encode(request), [])]})

    def send(self, kind: int, partition: int, entries: Iterable[Entry]) -> None:
        """Append entries to a partition."""
        topic = topics.predictions(self.name) if kind == PREDICTION else self.label_topic
        self._send({(topic, partition): [scenario.kafka_record(entry.record) for entry in entries]})

    def _send(self, batches: dict[tuple[str, int], Sequence[Record]]) -> None:
        async def send() -> None:
            producer = BatchProducer(self.settings.kafka_options())
            await producer.start()
            try:
                for (topic, partition), batch in batches.items():
                    await producer.send(topic, partition, batch)
            finally:
                await producer.stop()

        asyncio.run(send())

    def watermark_ms(self) -> int | None:
        name = f"drift.{self.name}"
        return read_marks(self._redis, [name])[name]

    def wait_for_watermark(self, at_least_ms: int, check: Callable[[], None]) -> None:
        until(lambda: (self.watermark_ms() or 0) >= at_least_ms, "the watermark is published", check=check)

    def read(self, topic: str, partitions: int = 1) -> dict[int, list[Any]]:
        """Read all records of a topic by partition, those of other models too."""
        consumer = KafkaConsumer(**self.settings.kafka_options(), group_id=None, check_crcs=False)
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        found: dict[int, list[Any]] = {place.partition: [] for place in places}
        ends = consumer.end_offsets(places)
        while any(consumer.position(place) < end for place, end in ends.items()):
            for place, messages in consumer.poll(timeout_ms=200).items():
                found[place.partition] += messages
        consumer.close()
        return found

    def outcomes(self) -> dict[int, list[records.Outcome]]:
        """Read the outcomes as any consumer does, without repeats; without the identity of their topic."""
        decode, repeats = records.decoder_of(records.Outcome).decode, RepeatFilter()
        found = {}
        for partition, messages in self.read(topics.outcomes(self.name), PARTITIONS).items():
            outcomes = [decode(message.value) for message in messages]
            found[partition] = [
                msgspec.structs.replace(each, source="")
                for each in outcomes
                if not repeats.is_repeat(each.source_partition, each.source_offset, each.source)
            ]
        return found

    def outcomes_written(self) -> int:
        """Count the outcomes with all repeats."""
        return sum(map(len, self.read(topics.outcomes(self.name), PARTITIONS).values()))

    def drift(self) -> list[records.DriftRecord]:
        """Read reports and alarms, the first of each id; repeats must be equal to it."""
        decode = records.decoder_of(records.DriftRecord).decode
        found: dict[tuple[str, int], records.DriftRecord] = {}
        for message in self._own(topics.DRIFT.name):
            record = decode(message.value)
            assert found.setdefault(scenario.identity(record), record) == record
        return list(found.values())

    def requests(self) -> list[records.RetrainingRequested]:
        decode = records.decoder_of(records.RetrainingRecord).decode
        found = [decode(message.value) for message in self._own(topics.RETRAINING.name)]
        return [record for record in found if isinstance(record, records.RetrainingRequested)]

    def dead_letters(self) -> list[records.DeadLetter]:
        decode = records.decoder_of(records.DeadLetter).decode
        written = [message.value for message in self._all(topics.DEAD_LETTERS.name)]
        found = [decode(value) for value in written if value is not None]  # a replay's marks have none
        return [
            letter for letter in found if letter.topic in {self.label_topic, topics.predictions(self.name)}
        ]

    def snapshots(self) -> int:
        return len(snapshots_of(self.settings, topics.DRIFT_STATE.name, self.name))

    def _own(self, topic: str) -> list[Any]:
        return [message for message in self._all(topic) if message.key == self.name.encode()]

    def _all(self, topic: str) -> list[Any]:
        return self.read(topic)[0]
