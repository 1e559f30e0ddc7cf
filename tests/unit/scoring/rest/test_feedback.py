"""Labels over HTTP: checked as model.yaml declares them, and taken only when the broker has them."""

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError
from starlette.testclient import TestClient

from services.runtime.web import server
from services.scoring.rest import routes
from tests.unit.scoring.fakes import Producer, endpoint

LABEL = {"id": "r0", "at": "2013-07-01T18:00:00Z", "y": 1.5}


def client(producer, **options):
    served = {"m": endpoint(producer, **options)}
    app = server.application(lambda: None, routes.routes(lambda: served))
    return TestClient(app, raise_server_exceptions=False)


def test_labels_go_to_the_label_topic_under_the_ids_of_their_requests():
    producer = Producer()
    answer = client(producer).post("/feedback", json={"labels": [LABEL, LABEL | {"id": "r1"}]})
    assert (answer.status_code, answer.json()) == (202, {"model": "m", "accepted": 2})
    assert [key for key, _, _ in producer.written["labels"]] == [b"r0", b"r1"]
    assert msgspec.json.decode(producer.written["labels"][0][1]) == LABEL


def test_what_was_written_is_what_drift_decodes():
    producer = Producer()
    client(producer).post("/feedback", json={"labels": [LABEL]})
    ((_, value, _),) = producer.written["labels"]
    decoded = endpoint().declaration.label.decoder().decode(value)
    assert (decoded.id, decoded.y, decoded.at.isoformat()) == ("r0", 1.5, "2013-07-01T18:00:00+00:00")


@pytest.mark.parametrize(
    ("labels", "status", "text"),
    [
        ([LABEL, LABEL | {"y": "late"}], 400, "labels[1]: Expected `float`, got `str` - at `$.y`"),
        ([LABEL | {"y": None}], 400, "labels[0]: Expected `float`, got `null` - at `$.y`"),
        ([LABEL, LABEL | {"at": "3000-01-01T00:00:00Z"}], 422, "labels[1]: the event time"),
        ([], 400, "labels: 1 to 1000"),
    ],
)
def test_one_bad_label_and_none_is_written(labels, status, text):
    producer = Producer()
    declared = endpoint().declaration.model_dump(by_alias=True)["label"]
    declared["schema"] = {"id": "string", "at": "timestamp", "y": "float?"}
    answer = client(producer, label=declared).post("/feedback", json={"labels": labels})
    assert answer.status_code == status
    assert text in answer.json()["error"]
    assert producer.written == {}


def test_a_broker_that_is_away_is_a_503():
    class Away(Producer):
        async def send_by_key(self, topic, batch):
            raise KafkaConnectionError("no broker")

    answer = client(Away()).post("/feedback", json={"labels": [LABEL]})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
