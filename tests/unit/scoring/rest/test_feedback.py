"""Labels over HTTP: checked as model.yaml declares them, accepted when the broker has acknowledged them."""

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from streams.producer import RecordTooLargeError
from tests.unit.scoring.fakes import Producer, predictor
from tests.unit.scoring.rest import clients

LABEL = {"id": "r0", "at": "2013-07-01T18:00:00Z", "y": 1.5}


def client(producer, **options):
    return clients.client(m=predictor(producer, **options))


def test_labels_go_to_the_label_topic_with_the_ids_of_their_requests_as_keys():
    producer = Producer()
    response = client(producer).post("/feedback", json={"labels": [LABEL, LABEL | {"id": "r1"}]})
    assert (response.status_code, response.json()) == (202, {"model": "m", "accepted": 2})
    assert [key for key, _, _ in producer.written["labels"]] == [b"r0", b"r1"]
    assert msgspec.json.decode(producer.written["labels"][0][1]) == LABEL


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
        ([], 400, "labels: a request must have 1 to 1000 of them, got 0"),
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
