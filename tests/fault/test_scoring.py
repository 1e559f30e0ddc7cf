"""The scoring process under fire: killed, poisoned, its model swapped; the account stays exact."""

import concurrent.futures
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition

from bench.scoring_job import installation
from bench.scoring_job.installation import JOB, MODEL, PARTITIONS, REQUESTS
from services.runtime import declaration_file, topic_creation
from services.runtime.settings import Settings
from streams import records
from streams.codec import RepeatFilter
from streams.producer import Record
from streams.topics import DEAD_LETTERS, predictions
from tests.processes import Process
from tests.waiting import LIVENESS_SECONDS, until

EVENTS = 40_000


class Ledger:
    """Reads all that scoring has written so far, and keeps the account."""

    def __init__(self, broker: str) -> None:
        self.predictions: dict[str, records.Prediction] = {}
        self.order: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        self.versions: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        self.repeats = 0
        self.asked_over_http: set[str] = set()
        self.letters: dict[tuple[str, int, int], records.DeadLetter] = {}
        """By the place of the bad record: behind a crash its letter may come again."""
        self._repeats = RepeatFilter()
        answers = [TopicPartition(predictions(MODEL), partition) for partition in range(PARTITIONS)]
        self._consumer = KafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest")
        self._consumer.assign([*answers, TopicPartition(DEAD_LETTERS.name, 0)])
        self._decode = msgspec.json.Decoder(records.Prediction).decode
        self._decode_letter = msgspec.json.Decoder(records.DeadLetter).decode

    def read(self) -> int:
        """Take in what is new; return how many requests are accounted for."""
        for fetched in self._consumer.poll(timeout_ms=200, max_records=20_000).values():
            for record in fetched:
                self._take(record)
        return len(self.predictions) + len(self.letters)

    def read_until(self, wanted: int) -> None:
        until(lambda: self.read() >= wanted, f"{wanted} requests are accounted for")

    def _take(self, record: Any) -> None:
        if record.topic == DEAD_LETTERS.name:
            if record.value is None:  # a replay's mark
                return
            letter = self._decode_letter(record.value)
            self.letters[letter.topic, letter.partition, letter.offset] = letter
            return
        answer = self._decode(record.value)
        if answer.source_offset == records.ASKED_OVER_HTTP:
            self.asked_over_http.add(answer.prediction_id)
            return
        assert answer.source_partition == record.partition
        if self._repeats.is_repeat(answer.source_partition, answer.source_offset):
            self.repeats += 1
            return
        assert answer.prediction_id not in self.predictions, "one request, two answers that are no repeats"
        self.predictions[answer.prediction_id] = answer
        self.order[record.partition].append(answer.source_offset)
        self.versions[record.partition].append(answer.version)


@pytest.fixture
def installed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The scoring job with features, topics and a first model."""
    monkeypatch.setitem(os.environ, "DRIFTLINE_HOME", str(settings.home))
    settings.home.mkdir()
    made = settings.model_copy(update={"models": JOB / "models", "feature_repo": JOB / "feature_repo"})
    topic_creation.ensure_topics(made, declaration_file.load_all(made.models))
    installation.write_features(made)
    installation.announce(made, installation.register(made, installation.train(seed=1)))
    return made


@pytest.fixture
def scoring(installed: Settings, tmp_path: Path) -> Iterator[Process]:
    with Process("scoring", installed, log=tmp_path / "scoring.log") as process:
        yield process


def test_scoring_survives_kills_poison_and_swaps_with_an_exact_account(
    installed: Settings, scoring: Process
) -> None:
    """One installation and one stream for all of it: the faults meet, as they do in life."""
    ledger = Ledger(installed.broker)
    ledger.read()
    before = len(ledger.letters)  # of other tests in this session
    assert all(topic != REQUESTS for topic, _, _ in ledger.letters)
    scoring.wait_ready()
    assert_rest_answers(scoring)
    assert_labels_arrive(installed, scoring)

    installation.fill(installed, REQUESTS, EVENTS, first=0)
    poison = poison_records()
    installation.send(installed, REQUESTS, dict.fromkeys(range(PARTITIONS), poison))
    installation.fill(installed, REQUESTS, EVENTS, first=EVENTS)
    ledger.read_until(before + EVENTS // 2)
    scoring.kill()
    scoring.start()
    ledger.read_until(before + EVENTS * 3 // 2)
    second = installation.register(installed, installation.train(seed=2))
    installation.announce(installed, second)
    installation.fill(installed, REQUESTS, EVENTS, first=2 * EVENTS)
    ledger.read_until(before + 3 * EVENTS + PARTITIONS * len(poison))
    code = stop_with_requests_at_work(scoring)
    ledger.read()

    answered, letters = (
        ledger.predictions,
        [letter for place, letter in ledger.letters.items() if place[0] == REQUESTS],
    )
    print(
        f"account: {3 * EVENTS} good and {PARTITIONS * len(poison)} bad requests; {len(answered)} answered, "
        f"{len(letters)} dead letters, {ledger.repeats} repeats dropped"
    )
    assert set(answered) == {f"request-{number}" for number in range(3 * EVENTS)}
    assert all(offsets == sorted(offsets) for offsets in ledger.order.values())
    assert sorted((letter.value or b"")[:20] for letter in letters) == sorted(
        value[:20] for _, value, _ in poison * PARTITIONS if value is not None
    )
    assert all(letter.reason for letter in letters)
    for versions in ledger.versions.values():
        assert versions == sorted(versions), "a version takes over between two slices, for good"
    assert {answer.version for answer in answered.values()} == {second - 1, second}
    assert answered[f"request-{3 * EVENTS - 1}"].version == second
    assert ledger.asked_over_http == {"r", "at work"}
    assert code == 0


def poison_records() -> list[Record]:
    good = '{"request_id":"%s","event_time":"2026-01-02T00:00:00Z","user_id":%s}'
    return [
        (b"k", b"not json at all", []),
        (b"k", (good % ("wrong type", "7")).encode(), []),
        (b"k", b'{"request_id":"a field is missing","user_id":"user-1"}', []),
        (b"k", (good % ("not a number", "NaN")).encode(), []),
        (b"k", b"\xff\xfe\x00", []),
    ]


def stop_with_requests_at_work(scoring: Process) -> int:
    """Send SIGTERM while a request is half sent: it is answered, and no other is let in."""
    address = scoring.url.removeprefix("http://")
    row = {"request_id": "at work", "event_time": "2026-01-02T00:00:00Z", "user_id": "user-1"}
    body = json.dumps({"rows": [row]}).encode()
    at_work, kept_alive = http.client.HTTPConnection(address), http.client.HTTPConnection(address)
    at_work.putrequest("POST", "/predict")
    at_work.putheader("Content-Length", str(len(body)))
    at_work.endheaders(body[:10])
    assert told(kept_alive, "GET", "/health/ready") == (200, None)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(scoring.stop)
        until(lambda: told(kept_alive, "GET", "/health/ready")[0] == 503, "it is no longer ready")
        assert told(kept_alive, "GET", "/v2/health/ready") == (503, None)
        assert told(kept_alive, "POST", "/predict") == (503, "close")
        at_work.send(body[10:])
        assert at_work.getresponse().status == 200
        return stopping.result()


def told(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, str | None]:
    """Ask on a connection that is kept open; return the status and what becomes of the connection."""
    connection.request(method, path)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers["Connection"]


def assert_labels_arrive(installed: Settings, scoring: Process) -> None:
    declared = declaration_file.load_all(installed.models)[MODEL].label
    named = {declared.id: "r", declared.event_time: "2026-01-02T01:00:00Z", declared.value: 1.0}
    status, answer = post(scoring, {"labels": [named]}, "/feedback")
    assert (status, answer) == (202, {"model": MODEL, "accepted": 1})
    consumer = KafkaConsumer(declared.topic, bootstrap_servers=installed.broker, auto_offset_reset="earliest")
    fetched = consumer.poll(timeout_ms=10_000)
    consumer.close()
    ((record,),) = fetched.values()
    decoded = declared.decoder().decode(record.value)
    assert (record.key, getattr(decoded, declared.id), getattr(decoded, declared.value)) == (b"r", "r", 1.0)


def assert_rest_answers(scoring: Process) -> None:
    row = {"request_id": "r", "event_time": "2026-01-02T00:00:00Z", "user_id": "user-1"}
    status, answer = post(scoring, {"rows": [row]})
    assert status == 200
    assert 0 < answer["predictions"][0]["score"] < 1
    status, answer = post(scoring, {"rows": [row | {"user_id": 7}]})
    assert status == 400
    assert "user_id" in answer["error"]
    status, answer = post(scoring, {"model": "nobody", "rows": [row]})
    assert status == 404
    with urllib.request.urlopen(f"{scoring.url}/metrics", timeout=LIVENESS_SECONDS) as page:
        assert b'driftline_model_info{arm="champion"' in page.read()


def post(scoring: Process, body: dict[str, Any], path: str = "/predict") -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"{scoring.url}{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=LIVENESS_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
