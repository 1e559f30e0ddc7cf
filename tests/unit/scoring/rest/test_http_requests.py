"""Every error of the inference path has its status, and none shows internals."""

import asyncio
import hashlib

import pytest
import redis.exceptions
from starlette.testclient import TestClient

from services.runtime.settings import Token
from services.runtime.web import server
from services.scoring.rest import http_requests, routes
from tests.unit.scoring.fakes import GatedModel, HalfOfX, Store, predictor, proven, sample
from tests.unit.scoring.rest.clients import ROW, client, run_with_client


def test_a_body_that_is_not_json_is_a_400():
    assert client().post("/predict", content=b"{").status_code == 400
    assert client().post("/predict", content=b"\xff\xfe").status_code == 400


def test_a_body_beyond_the_limit_is_a_413():
    response = client().post("/predict", content=b" " * (http_requests.BODY_BYTES_MAX + 1))
    assert response.status_code == 413
    assert response.json()["error"] == "the request body exceeds the limit of 4194304 bytes"


def test_a_defect_is_a_500_without_internals():
    class Defective(Store):
        async def read(self, entity_columns, event_times_ms, events):
            raise KeyError("poison")

    response = client(m=predictor(store=Defective())).post("/predict", json={"rows": [ROW]})
    assert response.status_code == 500
    assert "poison" not in response.text
    assert "logged as" in response.json()["error"]


def test_a_row_on_which_the_model_fails_is_a_422_with_the_reason():
    model = proven(HalfOfX(poison=1.2))
    response = client(m=predictor(models={1: model})).post("/predict", json={"rows": [ROW]})
    assert response.status_code == 422
    assert response.json()["error"] == "rows[0]: the model failed: ValueError('poison')"


def test_a_model_without_a_version_in_effect_is_a_503():
    response = client(m=predictor(arms=[])).post("/predict", json={"rows": [ROW]})
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert "no version of m is in effect yet" in response.json()["error"]


def test_one_of_several_models_must_be_named():
    response = client(m=predictor(), n=predictor()).post("/predict", json={"rows": [ROW]})
    assert response.status_code == 400
    assert response.json()["error"] == "model: a name is required; the models served are: m, n"


def test_a_slow_model_takes_no_slot_of_another():
    """It is at its limit of requests: its own callers are turned away, those of the other are not."""
    model = GatedModel()
    slow, quick = predictor(models={1: model}, limits={"requests_max": 2, "threads": 1}), predictor()

    async def scenario(post):
        waiting = [asyncio.create_task(post(model="slow")) for _ in range(3)]
        await model.next_call()
        statuses = [(await post(model="quick")).status_code for _ in range(5)]
        assert not all(one.done() for one in waiting)
        model.release()
        return statuses, [await one for one in waiting]

    statuses, responses = run_with_client(scenario, slow=slow, quick=quick)
    assert statuses == [200] * 5
    assert sorted(response.status_code for response in responses) == [200, 200, 503]
    (rejected,) = (response for response in responses if response.status_code == 503)
    assert "limits.requests_max" in rejected.json()["error"]
    assert rejected.headers["Retry-After"] == "1"


def test_a_prediction_that_takes_too_long_is_a_504():
    model = GatedModel()

    async def scenario(post):
        response = await post()
        model.release()
        return response

    response = run_with_client(scenario, m=predictor(models={1: model}, limits={"seconds_max": 0.05}))
    assert (response.status_code, response.json()["error"]) == (
        504,
        "the request took longer than the time limit",
    )


def test_only_failures_that_the_caller_did_not_cause_count_against_availability():
    def unanswered():
        return sample("driftline_requests_unanswered_total", model="m", channel="rest")

    model = GatedModel()

    async def scenario(post):
        invalid = await post(rows=[{"nonsense": 1}])
        after_invalid = unanswered()
        late = await post()
        model.release()
        return invalid.status_code, after_invalid, late.status_code

    before = unanswered()
    slow = predictor(models={1: model}, limits={"seconds_max": 0.05})
    assert run_with_client(scenario, m=slow) == (400, before, 504)
    assert unanswered() == before + 1


def test_a_row_without_a_required_feature_is_a_422():
    declared = {"service": "s", "from_request": ["x", "who"], "missing": {"reject": ["who"]}}
    http = client(m=predictor(features=declared))
    response = http.post("/predict", json={"rows": [ROW, ROW | {"who": None}]})
    assert response.status_code == 422
    assert response.json()["error"].startswith("rows[1]: the feature who is missing")


def test_an_online_store_that_cannot_be_reached_is_a_503():
    class Unreachable(Store):
        async def read(self, entity_columns, event_times_ms, events):
            raise redis.exceptions.ConnectionError("refused")

    response = client(m=predictor(store=Unreachable())).post("/predict", json={"rows": [ROW]})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert "refused" not in response.text


@pytest.mark.parametrize("path", ["/predict", "/feedback", "/v2/models/n/infer"])
def test_a_model_that_is_being_started_is_a_503_and_not_unknown(path):
    http = client(absent=lambda: {"n": "is being started"}, m=predictor())
    response = http.post(path, json={"model": "n", "rows": [ROW], "labels": [], "inputs": []})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json()["error"] == "model: 'n' is being started; retry"


def test_a_request_without_a_name_waits_for_the_only_model_that_is_being_started():
    application = server.application(
        lambda: None, routes.routes(dict, absent=lambda: {"n": "is being started"})
    )
    response = TestClient(application).post("/predict", json={"rows": [ROW]})
    assert (response.status_code, response.json()["error"]) == (503, "model: 'n' is being started; retry")


def test_a_model_that_cannot_be_loaded_is_a_503_at_once_with_the_reason_and_the_time_to_wait():
    """Ten requests make one attempt to load it; the readiness of the model gives the same reason."""
    models: dict[int, HalfOfX] = {}
    subject = predictor(models=models)
    http = client(m=subject)
    before = sample("driftline_model_load_failures_total", model="m")
    responses = [http.post("/predict", json={"rows": [ROW]}) for _ in range(10)]
    assert {each.status_code for each in responses} == {503}
    assert responses[0].headers["Retry-After"] == "1"
    assert responses[9].json()["error"] == "version 1 of m cannot predict: 1"
    assert sample("driftline_model_load_failures_total", model="m") == before + 1
    ready = http.get("/v2/models/m/ready")
    assert (ready.status_code, ready.json()["reason"]) == (503, responses[9].json()["error"])


def test_a_model_with_a_team_serves_only_that_team():
    tokens = [Token(hashlib.sha256(team.encode()).digest(), team) for team in ("red", "blue")]
    http = client(tokens, red=predictor(name="red", team="red"), all=predictor(name="all"))

    def statuses(team, model):
        headers = {"Authorization": f"Bearer {team}"} if team else {}
        requests = [
            ("/predict", {"model": model, "rows": [ROW]}),
            (f"/v2/models/{model}/infer", {"inputs": []}),
        ]
        return [http.post(path, json=body, headers=headers).status_code for path, body in requests]

    assert statuses("red", "red") == [200, 400]
    assert statuses("blue", "red") == [403, 403]
    assert statuses("blue", "all") == [200, 400]
    assert statuses("", "all") == [401, 401]
    description = http.get("/openapi.json", headers={"Authorization": "Bearer blue"}).json()
    assert not any(name.startswith("red.") for name in description["components"]["schemas"])


@pytest.mark.parametrize("path", ["/nothing", "/predict"])
def test_unknown_paths_and_methods_have_the_form_of_all_errors(path):
    response = client().get(path)
    assert response.status_code == {"/nothing": 404, "/predict": 405}[path]
    assert response.json()["request_id"]


def test_health_and_metrics_are_served_beside_the_routes():
    http = client()
    assert http.get("/health/live").json() == {"status": "live"}
    assert http.get("/health/ready").json() == {"status": "ready"}
    assert "driftline_predictions_total" in http.get("/metrics").text
