"""Labels over HTTP: checked as model.yaml declares them, accepted when the broker has acknowledged them."""

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from services.monitoring.label_join import SKEW_MS_MAX
from streams.producer import RecordTooLargeError
from tests.unit.scoring.fakes import Producer, predictor
from tests.unit.scoring.rest import clients

LABEL = {"id": "r0", "at": "2013-07-01T18:00:00Z", "y": 1.5}


def client(producer, **options):
    return clients.client(m=predictor(producer, **options))


def test_labels_go_to_the_label_topic_with_the_ids_of_their_requests_as_keys():
    producer = Producer()
    response = client(producer).post("/feedback", json={"labels": [LABEL, LABEL | {"id": "r1"}]})
    assert (response.status_code, response.json()["model"], response.json()["accepted"]) == (202, "m", 2)
    assert [key for key, _, _ in producer.written["labels"]] == [b"r0", b"r1"]
    assert msgspec.json.decode(producer.written["labels"][0][1]) == LABEL


def test_the_answer_says_of_each_label_when_it_counts_and_which_requests_it_can_belong_to():
    at, later = "2013-07-01T18:00:00Z", "2013-07-01T18:00:01Z"
    labels = [
        {"id": name, "at": time, "y": value}
        for name, time, value in (
            ("r0", later, 1.5), ("r1", at, 1.5), ("r0", later, 2.5), ("r0", at, 9.0),
            ("r0", at, -9.0), ("r1", later, -9.0),
        )
    ]  # fmt: skip
    declared = predictor().declaration
    horizon_ms, positive = declared.label.horizon_ms, declared.label.positive_above
    found = client(Producer()).post("/feedback", json={"labels": labels}).json()["labels"]
    at_ms = 1_372_701_600_000
    assert positive is not None
    assert found[1] == {
        "prediction_id": "r1",
        "counts_from_ms": at_ms,
        "requests_from_ms": at_ms - horizon_ms,
        "requests_to_ms": at_ms + SKEW_MS_MAX,
        "result": "written",
    }
    assert [each["result"] for each in found] == [
        "written", "written", "repeats", "repeats", "superseded", "corrects",
    ]  # fmt: skip


def test_a_label_after_the_horizon_belongs_to_a_request_where_absent_labels_have_a_meaning():
    declared = predictor().declaration.model_dump(by_alias=True)["label"] | {"absent": 0}
    served = predictor(Producer(), label=declared)
    response = clients.client(m=served).post("/feedback", json={"labels": [LABEL]})
    (found,) = response.json()["labels"]
    horizon_ms = served.declaration.label.horizon_ms
    assert found["requests_from_ms"] == found["counts_from_ms"] - 2 * horizon_ms


def test_a_value_that_stands_for_no_label_is_refused_with_its_row():
    producer = Producer()
    task = {"task": "multiclass", "classes": ["a", "b", "c"], "gates": None, "business": None}
    declared = predictor().declaration.model_dump(by_alias=True)["label"] | {"positive_above": None}
    declared["schema"] = {"id": "string", "at": "timestamp", "y": "string?"}
    labels = [LABEL | {"y": "a"}, LABEL | {"y": "d"}]
    served = predictor(producer, label=declared, **task)
    response = clients.client(m=served).post("/feedback", json={"labels": labels})
    assert response.status_code == 400
    assert response.json()["error"].startswith("labels[1]: the label's value is 'd', which is not one of")
    assert producer.written == {}


def test_drift_decodes_what_was_written():
    producer = Producer()
    client(producer).post("/feedback", json={"labels": [LABEL]})
    ((_, value, _),) = producer.written["labels"]
    decoded = predictor().declaration.label.decoder().decode(value)
    assert (decoded.id, decoded.y, decoded.at.isoformat()) == ("r0", 1.5, "2013-07-01T18:00:00+00:00")


@pytest.mark.parametrize(
    ("labels", "status", "text"),
    [
        ([LABEL, LABEL | {"y": "late"}], 400, "labels[1]: Expected `float`, got `str` - at `$.y`"),
        ([LABEL | {"y": None}], 400, "labels[0]: Expected `float`, got `null` - at `$.y`"),
        ([LABEL, LABEL | {"at": "3000-01-01T00:00:00Z"}], 422, "labels[1]: the event time"),
        ([LABEL, LABEL | {"id": "x" * 513}], 400, "labels[1]: Expected `str` of length <= 512 - at `$.id`"),
        ([], 400, "labels: a request must have 1 to 1000 entries, got 0"),
    ],
)
def test_with_one_invalid_label_none_is_written(labels, status, text):
    producer = Producer()
    declared = predictor().declaration.model_dump(by_alias=True)["label"]
    declared["schema"] = {"id": "string", "at": "timestamp", "y": "float?"}
    response = client(producer, label=declared).post("/feedback", json={"labels": labels})
    assert response.status_code == status
    assert text in response.json()["error"]
    assert producer.written == {}


@pytest.mark.parametrize(
    "error",
    [RecordTooLargeError("labels", (b"r0", b"{}", []), 2 << 20, 1 << 20), MessageSizeTooLargeError("2 MB")],
)
def test_a_label_that_its_topic_does_not_take_is_a_413_and_no_retry_helps(error):
    class Refusing(Producer):
        async def send_by_key(self, topic, batch):
            raise error

    response = client(Refusing()).post("/feedback", json={"labels": [LABEL]})
    assert response.status_code == 413
    assert "Retry-After" not in response.headers
    assert "a label is too large" in response.json()["error"]


def test_a_broker_that_cannot_be_reached_is_a_503():
    class Unreachable(Producer):
        async def send_by_key(self, topic, batch):
            raise KafkaConnectionError("no broker")

    response = client(Unreachable()).post("/feedback", json={"labels": [LABEL]})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
