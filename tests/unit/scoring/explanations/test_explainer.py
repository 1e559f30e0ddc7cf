"""Explanations: what the features contributed sums to the answer, and no other answer waits for it."""

import asyncio
import sys
import time

import numpy as np
import pytest
from starlette.testclient import TestClient

from services.runtime.web import server
from services.scoring.explanations import explainer, shap_values
from services.scoring.online_predictor import Endpoint
from services.scoring.rest import routes
from tests.unit.scoring.fakes import HalfOfX, Slow, endpoint, event

ROW = {"id": "r0", "at": "2013-07-01T16:05:00Z", "x": 1.2, "who": "abc"}


class Mixed(HalfOfX):
    """Uses a number, a text and a feature that may be missing, and multiplies them."""

    def predict(self, columns):
        known = np.array([who is not None for who in columns["who"]])
        f = np.where(np.isnan(columns["f"]), -1.0, columns["f"])
        return columns["x"] * (1 + known) + f * columns["x"]


def client(subject: Endpoint) -> TestClient:
    app = server.application(lambda: None, routes.routes(lambda: {"m": subject}))
    return TestClient(app, raise_server_exceptions=False)


def served_before(http):
    rows = [ROW | {"id": f"b{n}", "x": n / 4, "who": None if n % 3 == 0 else "ab" * n} for n in range(8)]
    for row in rows:
        assert http.post("/predict", json={"rows": [row]}).status_code == 200


def test_contributions_and_base_value_sum_to_each_score():
    http = client(endpoint(models={1: Mixed()}))
    served_before(http)
    answer = http.post("/predict", json={"rows": [ROW, ROW | {"x": -2.0, "who": None}], "explain": True})
    assert answer.status_code == 200
    for prediction in answer.json()["predictions"]:
        explained = prediction["explanation"]
        assert list(explained["contributions"]) == ["x", "who", "f"]
        total = explained["base_value"] + sum(explained["contributions"].values())
        assert total == pytest.approx(prediction["score"])
        assert explained["contributions"]["x"] != 0


def test_they_are_the_shapley_values_of_a_sum():
    """Of a sum of terms, each feature contributes its term less that term's mean over the background."""
    generator = np.random.default_rng(1)
    names = [f"f{index}" for index in range(12)]
    background = {name: generator.normal(size=20) for name in names}
    row = {name: generator.normal(size=1) for name in names}

    def total(columns):
        return sum(index * columns[name] for index, name in enumerate(names))

    explanation = shap_values.by_answers(total, background, row)
    assert explanation is not None
    expected = [index * (row[name][0] - background[name].mean()) for index, name in enumerate(names)]
    assert explanation.contributions == pytest.approx(expected)
    assert explanation.base_value == pytest.approx(total(background).mean())


def test_multiclass_explains_the_probability_of_the_answer():
    class Classes(HalfOfX):
        def predict(self, columns):
            high = np.clip(columns["x"] / 4, 0.1, 0.8)
            return np.column_stack([0.9 - high, high, np.full(len(high), 0.1)])

    declared = endpoint().declaration.model_dump(by_alias=True)["label"]
    label = declared | {"schema": {"id": "string", "at": "timestamp", "y": "string"}, "positive_above": None}
    http = client(endpoint(models={1: Classes()}, task="multiclass", classes=["a", "b", "c"], label=label))
    served_before(http)
    (answer,) = http.post("/predict", json={"rows": [ROW | {"x": 3.0}], "explain": True}).json()[
        "predictions"
    ]
    assert answer["prediction"] == "b"
    explained = answer["explanation"]
    assert explained["base_value"] + explained["contributions"]["x"] == pytest.approx(0.75)


def test_the_inference_protocol_has_them_as_tensors():
    http = client(endpoint(models={1: Mixed()}))
    served_before(http)
    data = {
        "id": ("BYTES", ["r"]),
        "at": ("BYTES", [ROW["at"]]),
        "x": ("FP64", [1.2]),
        "who": ("BYTES", ["abc"]),
    }
    inputs = [
        {"name": name, "datatype": kind, "shape": [1], "data": values}
        for name, (kind, values) in data.items()
    ]
    answer = http.post("/v2/models/m/infer", json={"inputs": inputs, "parameters": {"explain": True}})
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    assert outputs["features"]["data"] == ["x", "who", "f"]
    assert outputs["contributions"]["shape"] == [1, 3]
    assert outputs["method"]["data"] == ["kernel"]
    total = outputs["base_value"]["data"][0] + sum(outputs["contributions"]["data"])
    assert total == pytest.approx(outputs["score"]["data"][0])


def test_more_rows_than_the_bound_are_refused():
    answer = client(endpoint()).post("/predict", json={"rows": [ROW] * 17, "explain": True})
    assert (answer.status_code, answer.json()["error"]) == (400, "explain: at most 16 rows at once, got 17")


def test_without_the_library_the_request_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    answer = client(endpoint()).post("/predict", json={"rows": [ROW], "explain": True})
    assert answer.status_code == 501
    assert "driftline[explain]" in answer.json()["error"]


def test_numbers_that_overflow_have_no_explanation():
    class Whole(HalfOfX):
        def predict(self, columns):
            return columns["x"]

    http = client(endpoint(models={1: Whole()}))
    for _ in range(3):
        http.post("/predict", json={"rows": [ROW | {"x": -1.7e308}]})
    body = {"rows": [ROW | {"x": 1.7e308}], "explain": True}
    (answer,) = http.post("/predict", json=body).json()["predictions"]
    assert answer["explanation"] is None


def test_other_answers_do_not_wait_for_an_explanation():
    """It needs several calls of the model, one after the other, and an answer one; both have a thread."""
    subject = endpoint(models={1: Slow(0.2)}, limits={"threads": 1})

    async def ask():
        first = await subject.answer([event(subject.scorer, 0)])
        await subject.explain(first)  # imports the library
        explanation = asyncio.create_task(subject.explain(first))
        await asyncio.sleep(0.01)
        await subject.answer([event(subject.scorer, 1)])
        assert not explanation.done()
        return await explanation

    (explanation,) = asyncio.run(ask())
    assert explanation is not None


def test_an_explanation_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(explainer, "SECONDS_MAX", -1.0)
    began = time.monotonic()
    answer = client(endpoint()).post("/predict", json={"rows": [ROW], "explain": True})
    assert answer.status_code == 504
    assert time.monotonic() - began < 60
