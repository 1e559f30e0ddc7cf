"""``POST /predict``: rows in, predictions out, in order; concurrent requests share calls of the model."""

import asyncio

import msgspec
import pytest

from tests.unit.scoring.fakes import SECONDS_MAX, GatedModel, HalfOfX, Producer, predictor, settle
from tests.unit.scoring.rest.clients import ROW, application, client, run_with_client

SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/predict",
    "headers": [],
    "query_string": b"",
    "root_path": "",
}


def test_rows_are_predicted_in_order():
    response = client().post("/predict", json={"rows": [ROW, ROW | {"id": "r1", "x": 0.2}]})
    assert response.status_code == 200
    assert response.json() == {
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
            "rows[1]: the event time 32503680000000 ms is",
        ),
        (
            {"rows": [ROW, ROW | {"id": "x" * 513}]},
            400,
            "rows[1]: Expected `str` of length <= 512 - at `$.id`",
        ),
        (
            {"rows": [ROW, ROW | {"who": "x" * 400_000}]},
            422,
            "rows[1]: its text features have 400000 characters, the limit is",
        ),
        ({"rows": []}, 400, "rows: a request must have 1 to"),
        ({"rows": [ROW] * 1001}, 400, "got 1001"),
        ({}, 400, "rows"),
        ({"model": "nobody", "rows": [ROW]}, 404, "'nobody' is not served; the models served are: m"),
    ],
)
def test_invalid_input_is_named(body, status, text):
    response = client().post("/predict", json=body)
    assert response.status_code == status
    assert text in response.json()["error"]


@pytest.mark.parametrize("has_gone", [False, True])
def test_predictions_are_logged_if_their_caller_is_still_there(has_gone):
    async def run():
        producer = Producer()
        subject = predictor(producer)
        body = {"type": "http.request", "body": msgspec.json.encode({"rows": [ROW]}), "more_body": False}
        messages = [body, {"type": "http.disconnect"}] if has_gone else [body]

        async def receive():
            return messages.pop(0) if messages else await asyncio.Event().wait()

        async def send(_message):
            pass

        async with subject.running():
            await application(m=subject)(SCOPE, receive, send)
        return producer.written

    assert bool(asyncio.run(run())) is not has_gone


def test_a_page_of_another_site_cannot_ask_for_predictions():
    headers = {"Content-Type": "text/plain"}
    assert client().post("/predict", content=b'{"rows": []}', headers=headers).status_code == 415


def test_rows_beyond_the_model_s_limit_are_rejected():
    http = client(m=predictor(limits={"rows_max": 2}))
    assert http.post("/predict", json={"rows": [ROW] * 2}).status_code == 200
    text = http.post("/predict", json={"rows": [ROW] * 3}).text
    assert "rows: a request must have 1 to 2 entries, got 3" in text


def test_multiclass_predictions_have_probabilities():
    class Thirds(HalfOfX):
        def predict(self, columns):
            return [[0.2, 0.3, 0.5]] * len(columns["x"])

    label = predictor().declaration.model_dump(by_alias=True)["label"] | {
        "schema": {"id": "string", "at": "timestamp", "y": "string"},
        "positive_above": None,
    }
    subject = predictor(models={1: Thirds()}, task="multiclass", classes=["a", "b", "c"], label=label)
    (prediction,) = client(m=subject).post("/predict", json={"rows": [ROW]}).json()["predictions"]
    assert (prediction["prediction"], prediction["probabilities"]) == ("c", [0.2, 0.3, 0.5])


def test_concurrent_rows_share_a_call_of_the_model_and_an_error_affects_its_own_request():
    model = GatedModel(poison=9.5)
    subject = predictor(models={1: model}, limits={"threads": 1})

    async def scenario(post):
        first = asyncio.create_task(post())
        await model.next_call()
        rows = [ROW | {"id": f"r{number}", "x": 9.5 if number == 4 else number} for number in range(8)]
        others = [asyncio.create_task(post(rows=[row])) for row in rows]
        async with asyncio.timeout(SECONDS_MAX):
            while subject.requests_in_progress < 1 + len(rows):  # noqa: ASYNC110  # the count has no event
                await asyncio.sleep(0)
        await settle()
        model.release()
        await first
        return await asyncio.gather(*others)

    responses = run_with_client(scenario, m=subject)
    assert [response.status_code for response in responses] == [200] * 4 + [422] + [200] * 3
    scores = [response.json()["predictions"][0]["score"] for response in responses if response.is_success]
    assert scores == [number / 2 for number in range(8) if number != 4]
    assert model.calls[:2] == [1, 8]
