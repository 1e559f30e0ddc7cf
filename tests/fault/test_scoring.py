"""The scoring process is killed, gets invalid records and new versions; the ledger stays exact."""

import concurrent.futures
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition

from bench.scoring_job import installation
from bench.scoring_job.installation import MODEL, PARTITIONS, REQUESTS
from services.runtime import declaration_file
from services.runtime.settings import Settings
from streams import records
from streams.producer import Record
from streams.repeats import RepeatFilter
from streams.topics import DEAD_LETTERS, predictions
from tests import own_job
from tests.processes import Process
from tests.waiting import LIVENESS_SECONDS, until

EVENTS = 40_000


class SharedLedger:
    """Reads all that scoring has written so far, over Kafka and over HTTP."""

    def __init__(self, broker: str) -> None:
        self.predictions: dict[str, records.Prediction] = {}
        self.order: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        self.versions: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        self.repeats = 0
        self.over_http: set[str] = set()
        self.letters: dict[tuple[str, int, int], records.DeadLetter] = {}
        """Dead letters by topic, partition and offset; after a crash a letter may be repeated."""
        self._repeats = RepeatFilter()
        partitions = [TopicPartition(predictions(MODEL), partition) for partition in range(PARTITIONS)]
        self._consumer = KafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest")
        self._consumer.assign([*partitions, TopicPartition(DEAD_LETTERS.name, 0)])
        self._decode = msgspec.json.Decoder(records.Prediction).decode
        self._decode_letter = msgspec.json.Decoder(records.DeadLetter).decode

    def read(self) -> int:
        """Read new records; return the number of requests accounted for."""
        for fetched in self._consumer.poll(timeout_ms=200, max_records=20_000).values():
            for record in fetched:
                self._take(record)
        return len(self.predictions) + len(self.letters)

    def read_until(self, wanted: int) -> None:
        until(lambda: self.read() >= wanted, f"{wanted} requests are accounted for")

    def _take(self, record: Any) -> None:
        if record.topic == DEAD_LETTERS.name:
            if record.value is None:  # the mark of a replay
                return
            letter = self._decode_letter(record.value)
            self.letters[letter.topic, letter.partition, letter.offset] = letter
            return
        prediction = self._decode(record.value)
        if prediction.source_offset == records.ASKED_OVER_HTTP:
            self.over_http.add(prediction.prediction_id)
            return
        assert prediction.source_partition == record.partition
        if self._repeats.is_repeat(prediction.source_partition, prediction.source_offset):
            self.repeats += 1
            return
        assert prediction.prediction_id not in self.predictions, "two predictions for one request"
        self.predictions[prediction.prediction_id] = prediction
        self.order[record.partition].append(prediction.source_offset)
        self.versions[record.partition].append(prediction.version)


@pytest.fixture
def installed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The scoring job with its features, topics and a first version."""
    installed = own_job.install(settings, monkeypatch)
    installation.announce(installed, installation.register(installed, installation.train(seed=1)))
    return installed


@pytest.fixture
def scoring(installed: Settings, tmp_path: Path) -> Iterator[Process]:
    with Process("scoring", installed, log=tmp_path / "scoring.log") as process:
        yield process


def test_scoring_survives_a_kill_invalid_records_and_a_swap_with_an_exact_ledger(
    installed: Settings, scoring: Process
) -> None:
    """All faults happen in one installation and one stream of requests, as in production."""
    ledger = SharedLedger(installed.broker)
    ledger.read()
    before = len(ledger.letters)  # of other tests in this session
    assert all(topic != REQUESTS for topic, _, _ in ledger.letters)
    scoring.wait_ready()
    assert_rest_predicts(scoring)
    assert_labels_arrive(installed, scoring)

    installation.fill(installed, REQUESTS, EVENTS, first=0)
    invalid = invalid_records()
    installation.send(installed, REQUESTS, dict.fromkeys(range(PARTITIONS), invalid))
    installation.fill(installed, REQUESTS, EVENTS, first=EVENTS)
    ledger.read_until(before + EVENTS // 2)
    scoring.kill()
    scoring.start()
    ledger.read_until(before + EVENTS * 3 // 2)
    second = installation.register(installed, installation.train(seed=2))
    installation.announce(installed, second)
    installation.fill(installed, REQUESTS, EVENTS, first=2 * EVENTS)
    ledger.read_until(before + 3 * EVENTS + PARTITIONS * len(invalid))
    code = stop_with_a_request_in_progress(scoring)
    ledger.read()

    predicted = ledger.predictions
    letters = [letter for source, letter in ledger.letters.items() if source[0] == REQUESTS]
    print(
        f"ledger: {3 * EVENTS} valid and {PARTITIONS * len(invalid)} invalid requests; "
        f"{len(predicted)} predictions, {len(letters)} dead letters, {ledger.repeats} repeats dropped"
    )
    assert set(predicted) == {f"request-{number}" for number in range(3 * EVENTS)}
    assert all(offsets == sorted(offsets) for offsets in ledger.order.values())
    assert sorted((letter.value or b"")[:20] for letter in letters) == sorted(
        value[:20] for _, value, _ in invalid * PARTITIONS if value is not None
    )
    assert all(letter.reason for letter in letters)
    for versions in ledger.versions.values():
        assert versions == sorted(versions), (
            "a version replaces the previous one between two slices, and for all later ones"
        )
    assert {each.version for each in predicted.values()} == {second - 1, second}
    assert predicted[f"request-{3 * EVENTS - 1}"].version == second
    assert ledger.over_http == {"r", "in progress"}
    assert code == 0


def invalid_records() -> list[Record]:
    good = '{"request_id":"%s","event_time":"2026-01-02T00:00:00Z","user_id":%s}'
    return [
        (b"k", b"not json at all", []),
        (b"k", (good % ("wrong type", "7")).encode(), []),
        (b"k", b'{"request_id":"a field is missing","user_id":"user-1"}', []),
        (b"k", (good % ("not a number", "NaN")).encode(), []),
        (b"k", b"\xff\xfe\x00", []),
    ]


def stop_with_a_request_in_progress(scoring: Process) -> int:
    """Send SIGTERM while a request is half sent: it gets its response, and no other is admitted."""
    address = scoring.url.removeprefix("http://")
    row = {"request_id": "in progress", "event_time": "2026-01-02T00:00:00Z", "user_id": "user-1"}
    body = json.dumps({"rows": [row]}).encode()
    in_progress, kept_alive = http.client.HTTPConnection(address), http.client.HTTPConnection(address)
    in_progress.putrequest("POST", "/predict")
    in_progress.putheader("Content-Length", str(len(body)))
    in_progress.endheaders(body[:10])
    assert exchange(kept_alive, "GET", "/health/ready") == (200, None)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(scoring.stop)
        until(
            lambda: exchange(kept_alive, "GET", "/health/ready")[0] == 503, "the process is no longer ready"
        )
        assert exchange(kept_alive, "GET", "/v2/health/ready") == (503, None)
        assert exchange(kept_alive, "POST", "/predict") == (503, "close")
        in_progress.send(body[10:])
        assert in_progress.getresponse().status == 200
        return stopping.result()


def exchange(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, str | None]:
    """Send a request on an open connection; return the status and the header Connection."""
    connection.request(method, path)
    response = connection.getresponse()
    response.read()
    return response.status, response.headers["Connection"]


def assert_labels_arrive(installed: Settings, scoring: Process) -> None:
    declared = declaration_file.load_all(installed.models)[MODEL].label
    named = {declared.id: "r", declared.event_time: "2026-01-02T01:00:00Z", declared.value: 1.0}
    status, body = post(scoring, {"labels": [named]}, "/feedback")
    (answer,) = body.pop("labels")
    assert (status, body) == (202, {"model": MODEL, "accepted": 1})
    assert (answer["prediction_id"], answer["result"]) == ("r", "written")
    consumer = KafkaConsumer(declared.topic, bootstrap_servers=installed.broker, auto_offset_reset="earliest")
    fetched = consumer.poll(timeout_ms=LIVENESS_SECONDS * 1000)
    consumer.close()
    ((record,),) = fetched.values()
    decoded = declared.decoder().decode(record.value)
    assert (record.key, getattr(decoded, declared.id), getattr(decoded, declared.value)) == (b"r", "r", 1.0)


def assert_rest_predicts(scoring: Process) -> None:
    row = {"request_id": "r", "event_time": "2026-01-02T00:00:00Z", "user_id": "user-1"}
    status, body = post(scoring, {"rows": [row]})
    assert status == 200
    assert 0 < body["predictions"][0]["score"] < 1
    status, body = post(scoring, {"rows": [row | {"user_id": 7}]})
    assert status == 400
    assert "user_id" in body["error"]
    status, _ = post(scoring, {"model": "nobody", "rows": [row]})
    assert status == 404
    with urllib.request.urlopen(f"{scoring.url}/metrics", timeout=LIVENESS_SECONDS) as page:
        assert b'driftline_model_info{arm="champion"' in page.read()


def post(scoring: Process, body: dict[str, Any], path: str = "/predict") -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"{scoring.url}{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=LIVENESS_SECONDS) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
