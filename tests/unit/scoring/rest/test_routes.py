"""The REST adapter: every kind of error has its status, and none shows internals."""

import pytest
from starlette.testclient import TestClient

from services.runtime.web import server
from services.scoring.rest import request_handling, routes
from tests.unit.scoring.fakes import HalfOfX, endpoint

ROW = {"id": "r0", "at": "2013-07-01T16:05:00Z", "x": 1.2, "who": "abc"}


def client(**subjects):
    served = subjects or {"m": endpoint()}
    app = server.application(lambda: None, routes.routes(lambda: served))
    return TestClient(app, raise_server_exceptions=False)


def test_rows_are_answered_in_order():
    answer = client().post("/predict", json={"rows": [ROW, ROW | {"id": "r1", "x": 0.2}]})
    assert answer.status_code == 200
    assert answer.json() == {
        "model": "m",
        "predictions": [
            {"prediction_id": "r0", "version": 1, "arm": "champion", "score": 0.6, "prediction": 1},
            {"prediction_id": "r1", "version": 1, "arm": "champion", "score": 0.1, "prediction": 0},
        ],
    }


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"rows": [ROW, {**ROW, "x": "high"}]}, 400, "rows[1]: Expected `float`, got `str` - at `$.x`"),
        (
            {"rows": [{k: v for k, v in ROW.items() if k != "at"}]},
            400,
            "rows[0]: Object missing required field `at`",
        ),
        (
            {"rows": [ROW, ROW | {"at": "3000-01-01T00:00:00Z"}]},
            422,
            "rows[1]: the event time 32503680000000 ms is more than a day after",
        ),
        ({"rows": []}, 400, "rows: 1 to"),
        ({"rows": [ROW] * 1001}, 400, "got 1001"),
        ({}, 400, "rows"),
        ({"model": "nobody", "rows": [ROW]}, 404, "'nobody' is not served; known are m"),
    ],
)
def test_bad_input_is_named(body, status, text):
    answer = client().post("/predict", json=body)
    assert answer.status_code == status
    assert text in answer.json()["error"]


def test_body_that_is_no_json_is_a_400():
    assert client().post("/predict", content=b"{").status_code == 400
    assert client().post("/predict", content=b"\xff\xfe").status_code == 400


def test_body_without_bound_is_refused():
    answer = client().post("/predict", content=b" " * (request_handling.BODY_BYTES_MAX + 1))
    assert answer.status_code == 413


def test_defect_is_a_500_without_internals():
    answer = client(m=endpoint(models={1: HalfOfX(poison=1.2)})).post("/predict", json={"rows": [ROW]})
    assert answer.status_code == 500
    assert "poison" not in answer.text
    assert "logged as" in answer.json()["error"]


def test_no_model_yet_is_a_503():
    answer = client(m=endpoint(arms=[])).post("/predict", json={"rows": [ROW]})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


def test_several_models_must_be_named():
    answer = client(m=endpoint(), n=endpoint()).post("/predict", json={"rows": [ROW]})
    assert answer.status_code == 400
    assert "name one of m, n" in answer.json()["error"]


def test_health_and_metrics_are_served():
    http = client()
    assert http.get("/health/live").json() == {"status": "live"}
    assert http.get("/health/ready").json() == {"status": "ready"}
    assert "driftline_predictions_total" in http.get("/metrics").text
