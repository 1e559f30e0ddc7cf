"""Hostile records among valid ones in every topic that a process reads: each is accounted for, exactly."""

import collections
import contextlib
import functools
import heapq
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from services.drift.monitored_model import SNAPSHOTS
from services.feature_store import feast_layout, repository
from services.learning.session import CHECKPOINTS
from services.operations import setup
from services.operations.dead_letters import letters
from services.operations.local_servers.supervisor import Supervisor
from services.runtime.settings import Settings
from services.runtime.times import now_ms
from streams import codec, records, topics
from tests import hostile_records, hostile_world
from tests.hostile_records import Fate
from tests.hostile_world import MODELS, Planned, Target, Written
from tests.processes import Process
from tests.schema_registry import SchemaRegistry
from tests.shop import Sent, Shop, expected_hashes, read_topic, stored_hashes
from tests.snapshots import snapshots_of
from tests.waiting import LIVENESS_SECONDS, until

PROCESSES = ("features", "scoring", "drift", "learning", "archive", "retraining", "dashboard", "alerting")
HOUR_MS = 3_600_000
SPAN_MS = 4 * HOUR_MS
HOSTILE = {
    "event": 450, "request": 400, "label": 330, "prediction": 260, "outcome": 150, "control": 80,
    "forwarded": 90,
}  # fmt: skip
"""Hostile records for each topic, by family."""
VALID = {"event": 500, "request": 300}
REPLAYED = (
    "{}.orders",
    "{}.readings",
    "{}.sales",
    "{}a.requests",
    "{}b.requests",
    "{}b.labels",
    "{}c.labels",
    "driftline.predictions.{}c",
    topics.RETRAINING.name,
)
SEED = 20_261_129


@pytest.fixture
def kafka(servers: Supervisor, tmp_path: Path) -> Iterator[str]:
    with hostile_world.own_kafka(servers, tmp_path / "kafka") as broker:
        yield broker


@pytest.fixture
def installed(
    settings: Settings,
    schema_registry: SchemaRegistry,
    unique_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """Features, models, topics and schemas, without a process."""
    installed = hostile_world.install(settings, schema_registry.url, unique_name, tmp_path)
    for name, value in installed.environment().items():
        monkeypatch.setenv(name, value)
    setup.setup()
    return installed


def planned(rng: random.Random, targets: Iterable[Target], at_ms: int) -> tuple[list[Planned], list[Planned]]:
    """Mix valid and hostile records of all targets in event-time order; a label follows its request.

    Returns some control records that are there when the processes start, and all other records.
    """
    kinds = list(hostile_records.kinds(at_ms).values())
    by_topic = {target.topic: target for target in targets}
    slots: list[tuple[Target, hostile_records.Kind | None]] = []
    for target in by_topic.values():
        slots += [
            (target, kind)
            for kind in hostile_records.spread(rng, kinds, target.shape, HOSTILE[target.family])
        ]
        slots += [(target, None)] * VALID.get(target.family, 0)
    rng.shuffle(slots)
    first = [(target, None) for target in by_topic.values() if target.family == "event"] * 8
    slots = first + slots  # so that each partition has a watermark, and what is of the year 1 is late
    start_ms = at_ms - 12 * HOUR_MS
    due: list[tuple[int, str, Target]] = []
    made: list[Planned] = []

    def add(target: Target, kind: hostile_records.Kind | None, identity: str, time_ms: int) -> None:
        # Predictions of somebody else must not make those that scoring writes later late.
        at_ms = start_ms if target.family == "prediction" else time_ms
        fields = target.fields(rng, identity, at_ms)
        partition, key = target.place(rng, fields)
        record = (
            kind.record(rng, target.shape, fields, key)
            if kind
            else hostile_records.valid(target.shape, fields, key)
        )
        made.append((target, partition, time_ms, record))

    for number, (target, kind) in enumerate(slots):
        time_ms = start_ms + number * SPAN_MS // len(slots)
        while due and due[0][0] <= number:
            _, identity, labels = heapq.heappop(due)
            add(labels, None, identity, time_ms)
        add(target, kind, f"{'h' if kind else 'v'}{number}", time_ms)
        if kind is None and target.family == "request":
            labels = by_topic[target.topic.removesuffix(".requests") + ".labels"]
            heapq.heappush(due, (number + rng.randrange(1, 400), f"v{number}", labels))
    for _, identity, labels in sorted(due, key=lambda each: each[:2]):
        add(labels, None, identity, start_ms + SPAN_MS)
    control = [each for each in made if each[0].family == "control"]
    early = {id(each) for each in control[: len(control) // 2]}
    return [each for each in made if id(each) in early], [each for each in made if id(each) not in early]


def beats(targets: Iterable[Target], end_ms: int) -> list[Planned]:
    """Return the heartbeats that end the traffic of all applications' topics."""
    beat = hostile_records.Record("", Fate.IGNORED, b"-", None, codec.heartbeat(end_ms), None, {})
    return [
        (target, partition, end_ms, beat)
        for target in targets
        if target.family in ("event", "request", "label")
        for partition in range(target.partitions)
    ]


class Lags:
    """Tells which consumers have not read to the end."""

    def __init__(self, settings: Settings, names: Iterable[str], targets: Iterable[Target]) -> None:
        self._settings = settings
        sources = [target.topic for target in targets if target.family == "event"]
        self._names = list(names)
        groups = {f"driftline.scoring.{name}": [f"{name}.requests"] for name in self._names}
        internal = [
            topics.repartition(view.name) for view in repository.load(settings).views if view.is_repartitioned
        ]
        groups["driftline.features"] = [*sources, *internal]
        groups["driftline.retraining"] = [topics.RETRAINING.name]
        groups["driftline.archive"] = [*sources]
        for name in self._names:
            own = [f"{name}.requests", f"{name}.labels", topics.predictions(name), topics.outcomes(name)]
            groups["driftline.archive"] += own
        self._groups = groups
        self._admin = KafkaAdminClient(bootstrap_servers=settings.broker)
        self._consumer = KafkaConsumer(bootstrap_servers=settings.broker)

    def close(self) -> None:
        self._admin.close()
        self._consumer.close()

    def __call__(self) -> dict[str, int]:
        """Return the records that are still to be read, by consumer and partition."""
        found: dict[str, int] = {}
        for group, names in self._groups.items():
            ends = self._ends(names)
            (offsets,) = self._admin.list_group_offsets({group: list(ends)}).values()
            for place, end in ends.items():
                position = offsets[place].offset if place in offsets else 0
                found[f"{group} {place.topic}/{place.partition}"] = end - max(0, position)
        for name in self._names:
            for service, state in (("drift", self._drift(name)), ("learning", self._learning(name))):
                if service == "learning" and not name.endswith("c"):
                    continue
                for kind, topic in (("predictions", topics.predictions(name)), ("labels", f"{name}.labels")):
                    at = getattr(state, kind, [])
                    for place, end in self._ends([topic]).items():
                        position = at[place.partition].offset if place.partition < len(at) else 0
                        found[f"{service} {place.topic}/{place.partition}"] = end - position
        return {name: lag for name, lag in found.items() if lag}

    def _ends(self, names: Iterable[str]) -> dict[TopicPartition, int]:
        places = [
            TopicPartition(name, number)
            for name in names
            for number in sorted(self._consumer.partitions_for_topic(name) or ())
        ]
        ends: dict[TopicPartition, int] = self._consumer.end_offsets(places)
        return ends

    def _drift(self, name: str) -> Any:
        return self._state(topics.DRIFT_STATE.name, SNAPSHOTS.decode, name)

    def _learning(self, name: str) -> Any:
        return self._state(topics.LEARNING_STATE.name, CHECKPOINTS.decode, name)

    def _state(self, topic: str, decode: Callable[..., Any], name: str) -> Any:
        values = snapshots_of(self._settings, topic, name)
        return decode(values[-1], name, f"{name}.labels") if values else None


def request_archive(settings: Settings) -> None:
    """Ask for a retraining of a model that does not exist: the archive commits what it has read."""
    request = records.RetrainingRequested(
        request_id="nobody", model="nobody", trigger="manual", requested_at_ms=0, reason="commit"
    )
    from services.runtime import kafka_producers

    with kafka_producers.connected(settings) as producer:
        producer.send(topics.RETRAINING.name, b"nobody", records.encode(request), [])


def test_every_record_is_accounted_for_whatever_is_written_between_valid_ones(
    installed: Settings,
    unique_name: str,
    schema_registry: SchemaRegistry,
    tmp_path: Path,
) -> None:
    names = [f"{unique_name}{letter}" for letter in MODELS]
    hostile_world.register_version(installed, names[0], tmp_path / "version")
    avro = hostile_world.Avro(schema_registry.url, unique_name)
    at_ms = now_ms()
    targets = hostile_world.targets(unique_name, avro, at_ms)
    before, traffic = planned(random.Random(SEED), targets, at_ms)
    with contextlib.ExitStack() as stack:
        lags = stack.enter_context(contextlib.closing(Lags(installed, names, targets)))
        written = hostile_world.write(installed.broker, avro, before)
        processes = {
            name: stack.enter_context(Process(name, installed, log=tmp_path / f"{name}.log"))
            for name in PROCESSES
        }
        for process in processes.values():
            process.wait_ready()
        written += hostile_world.write(installed.broker, avro, traffic)
        written += hostile_world.write(installed.broker, avro, beats(targets, at_ms - 3 * HOUR_MS))
        account = Account(installed, names, processes, written)
        wait_without_lag(installed, lags, processes)
        account.check_all()
        check_list(account)
        replayed = replay(account, unique_name)
        # Drift and learning take what came last only once all partitions are known to have passed it.
        account.add(hostile_world.write(installed.broker, avro, beats(targets, at_ms - 2 * HOUR_MS)))
        wait_without_lag(installed, lags, processes)
        check_replayed(account, replayed)
        account.check_ready()
    print(account.summary())


def wait_without_lag(settings: Settings, lags: Lags, processes: Mapping[str, Process]) -> None:
    """Wait until every consumer has read everything, and print how long that took."""
    began = time.monotonic()
    last: dict[str, int] = {}
    ask_archive = functools.cache(functools.partial(request_archive, settings))  # once

    def is_reached() -> bool:
        last.clear()
        last.update(lags())
        if not [name for name in last if "driftline.archive" not in name]:
            ask_archive()
        return not last

    def check() -> None:
        for process in processes.values():
            process.check()

    try:
        until(is_reached, "no consumer has a lag", check=check)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from error
    print(f"no lag after {time.monotonic() - began:.1f} s")


class Account:
    """What was written, and what became of it."""

    def __init__(
        self,
        settings: Settings,
        names: Sequence[str],
        processes: Mapping[str, Process],
        written: Sequence[Written],
    ) -> None:
        self.settings = settings
        self.names = names
        self.processes = processes
        self.by_place: dict[tuple[str, int, int], Written] = {}
        self.add(written)
        self.letters: list[records.DeadLetter] = []
        self._kinds = hostile_records.kinds(0)

    def summary(self) -> str:
        hostile = [each for each in self.by_place.values() if each.record.kind]
        kinds = {each.record.kind for each in hostile}
        return (
            f"{len(self.by_place)} records, {len(hostile)} of them hostile, of {len(kinds)} kinds, in "
            f"{len({each.target.topic for each in hostile})} topics; {len(self.letters)} dead letters"
        )

    def add(self, written: Iterable[Written]) -> None:
        self.by_place |= {each.place: each for each in written}

    def of(self, topic: str) -> list[Written]:
        return [each for each in self.by_place.values() if each.target.topic == topic]

    def check_all(self) -> None:
        """Check everything, and only then fail, with all that is wrong."""
        faults = []
        checks: list[Callable[[], None]] = [
            self.check_ready, self.check_letters, self.check_reasons, self.check_skipped, self.check_features,
            *(functools.partial(self.check_answers, name) for name in self.names),
            *(functools.partial(self.check_outcomes, name) for name in self.names),
            *(functools.partial(self.check_counts, name) for name in self.names),
        ]  # fmt: skip
        self.letters = self.read_letters()
        for check in checks:
            try:
                check()
            except AssertionError as error:
                faults.append(f"{check}: {error}")
        assert not faults, "\n".join(faults)

    def read_letters(self) -> list[records.DeadLetter]:
        """Return all letters but those that the test wrote itself."""
        place = topics.DEAD_LETTERS.name, 0
        return [
            letter
            for offset, letter in hostile_world.letters(self.settings.broker)
            if (*place, offset) not in self.by_place
        ]

    def check_ready(self) -> None:
        ready = {name: process.is_ready(LIVENESS_SECONDS) for name, process in self.processes.items()}
        assert ready == dict.fromkeys(PROCESSES, True)

    def check_letters(self) -> None:
        """Each record has exactly the dead letters that its kind must have, with the record unchanged."""
        wanted = {(*each.place, service) for each in self.by_place.values() for service in each.refusing}
        seen = collections.Counter((*place_of(each), each.service) for each in self.letters)
        assert self._told(wanted - seen.keys()) == {}, "missing"
        assert self._told(seen.keys() - wanted) == {}, "too many"
        assert set(seen.values()) == {1}, "once each"
        for letter in self.letters:
            record = self.by_place[place_of(letter)].record
            value = record.value
            if letter.cut_from_bytes is not None:
                assert value is not None
                value = value[: len(letter.value or b"")]
            assert (letter.key, len(letter.headers)) == (record.key, len(record.headers))
            assert letter.value == value or record.kind.startswith("avro_schema")

    def _told(self, places: Iterable[tuple[str, int, int, str]]) -> dict[str, int]:
        return dict(
            collections.Counter(
                f"{self.by_place[place[:3]].record.kind or 'valid'} in {place[0]} by {place[3]}"
                if place[:3] in self.by_place
                else f"something else in {place[0]} by {place[3]}"
                for place in places
            )
        )

    def check_reasons(self) -> None:
        """The reason is that of the kind, and none is a defect of ours."""
        unexplained = set()
        for letter in self.letters:
            written = self.by_place.get(place_of(letter))
            if written is None:
                continue
            kind = self._kinds[written.record.kind]
            wanted = "missing" if written.target.family == "forwarded" else kind.reason
            if letter.kind != "invalid" or not re.search(wanted, letter.reason):
                unexplained.add((kind.name, letter.kind, letter.service, letter.reason[:200]))
        assert unexplained == set()

    def check_skipped(self) -> None:
        """Each process has counted the control records that it could not read."""
        control = [each for each in self.by_place.values() if each.target.family == "control"]
        invalid = collections.Counter(
            each.target.topic for each in control if each.record.fate is Fate.INVALID
        )
        ahead = sum(
            each.target.topic == topics.DRIFT.name and each.record.fate is Fate.AHEAD for each in control
        )
        skipped = "driftline_records_skipped"
        alerting, drift = self.processes["alerting"], self.processes["drift"]
        for topic in (topics.DRIFT.name, topics.RETRAINING.name, topics.MODELS.name, topics.ALERTS.name):
            wanted = invalid[topic] + ahead * (topic == topics.DRIFT.name)  # it compares times with clocks
            assert alerting.count(skipped, topic=topic) == wanted, f"alerting, {topic}"
        for topic in (topics.RETRAINING.name, topics.MODELS.name):
            assert drift.count(skipped, topic=topic) >= invalid[topic], f"drift, {topic}"
        found = self.processes["scoring"].count("driftline_model_changes_invalid")
        assert found == invalid[topics.MODELS.name], "scoring"
        page = httpx.get(f"{self.processes['dashboard'].url}/api/state", timeout=LIVENESS_SECONDS)
        assert page.status_code == 200
        of_years_ahead = sum(
            each.target.topic == topics.DRIFT.name and each.record.kind.startswith("time_")
            for each in control
            if each.record.fate is Fate.AHEAD
        )
        assert page.json()["pulse"]["kafka"]["records_skipped"] == of_years_ahead + sum(
            invalid[topic.name] for topic in (topics.DRIFT, topics.RETRAINING, topics.MODELS)
        )

    def check_answers(self, name: str) -> None:
        """Each accepted request has one prediction."""
        asked = [each for each in self.of(f"{name}.requests") if each.record.fate is Fate.ACCEPTED]
        foreign = {each.place for each in self.of(topics.predictions(name))}
        decode = records.decoder_of(records.Prediction).decode
        answered = [
            decode(each.value)
            for each in read_topic(self.settings.broker, topics.predictions(name))
            if each.value is not None and (each.topic, each.partition, each.offset) not in foreign
        ]
        wanted = collections.Counter(
            (each.partition, each.offset, each.record.fields["id"]) for each in asked
        )
        assert wanted == collections.Counter(
            (each.source_partition, each.source_offset, each.prediction_id) for each in answered
        )

    def check_outcomes(self, name: str) -> None:
        """Each valid label has one outcome."""
        told = [
            each.record.fields["id"]
            for each in self.of(f"{name}.labels")
            if not each.record.kind and each.record.value is not None
        ]
        foreign = {each.place for each in self.of(topics.outcomes(name))}
        decode = records.decoder_of(records.Outcome).decode
        joined = [
            decode(each.value).prediction_id
            for each in read_topic(self.settings.broker, topics.outcomes(name))
            if (each.topic, each.partition, each.offset) not in foreign
        ]
        assert collections.Counter(joined) == collections.Counter(told)

    def check_counts(self, name: str) -> None:
        """Drift has counted each accepted prediction and label of anybody."""
        drift = self.processes["drift"]
        accepted = [each for each in self.of(f"{name}.labels") if each.record.fate is Fate.ACCEPTED]
        orphaned = drift.count("driftline_labels", model=name, result="orphaned")
        assert orphaned == sum(bool(each.record.kind) for each in accepted)
        asked = [
            each
            for topic in (f"{name}.requests", topics.predictions(name))
            for each in self.of(topic)
            if each.record.fate is Fate.ACCEPTED
        ]
        taken = drift.count("driftline_drift_records", model=name, input="predictions", result="taken")
        assert taken == len(asked)

    def check_features(self) -> None:
        """The store holds what one computation over all accepted events gives."""
        plan = repository.load(self.settings)
        shop = Shop(plan.project, self.settings, plan)
        sent = [
            Sent(each.target.topic, each.partition, each.offset, each.time_ms, hostile_world.as_json(each))
            for each in self.by_place.values()
            if each.target.family == "event" and each.record.fate is Fate.ACCEPTED
        ]
        stored, expected = stored_hashes(shop), expected_hashes(shop, sent)
        names = {
            feast_layout.feature_field(view.name, feature.name): f"{view.name}:{feature.name}"
            for view in plan.views
            for feature in view.features
        }
        assert stored.keys() == expected.keys()
        different = {
            (key[:60], names.get(field, field), stored[key].get(field), expected[key].get(field))
            for key in stored
            for field in stored[key].keys() | expected[key].keys()
            if stored[key].get(field) != expected[key].get(field)
        }
        assert different == set()


def place_of(letter: records.DeadLetter) -> tuple[str, int, int]:
    return letter.topic, letter.partition, letter.offset


def dead_letters(*arguments: str) -> str:
    """Run ``driftline dead-letters`` with the settings of the environment; return its output."""
    command = [sys.executable, "-m", "services.operations.cli", "dead-letters", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIVENESS_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def check_list(account: Account) -> None:
    """The command shows each letter, whatever else is in its topic."""
    shown = json.loads(dead_letters("list", "--json", "--limit", "1000000"))
    listed = collections.Counter((row["source"], row["service"]) for row in shown["letters"])
    wanted = collections.Counter(
        ("/".join(map(str, place_of(letter))), letter.service) for letter in account.letters
    )
    assert wanted - listed == collections.Counter()


def replay(account: Account, prefix: str) -> list[Written]:
    """Replay the letters of some topics that together have every kind; return the records."""
    replayed: list[Written] = []
    for name in REPLAYED:
        topic = name.format(prefix)
        print(dead_letters("replay", "--topic", topic))
        places = {place_of(letter) for letter in account.letters if letter.cut_from_bytes is None}
        replayed += [each for each in account.of(topic) if each.place in places]
    own = [each for each in account.by_place.values() if each.target.family != "forwarded"]
    kinds = {each.record.kind for each in own if each.refusing}
    assert {each.record.kind for each in replayed} >= kinds - {"compressed_10_mib"}, "some of each kind"
    return replayed


def check_replayed(account: Account, replayed: Iterable[Written]) -> None:
    """Each replayed record is refused again, by everybody who refused it, with the same reason."""
    wanted = collections.Counter(
        (each.place, service)
        for each in replayed
        for service in each.refusing
        if each.record.kind != "kafka_time_in_1970"  # a replay has a time of Kafka's own
    )
    again = [letter for letter in account.read_letters() if letters.replays_of(letter.headers) == 1]
    assert (
        collections.Counter((letters.replayed_from(each.headers), each.service) for each in again) == wanted
    )
