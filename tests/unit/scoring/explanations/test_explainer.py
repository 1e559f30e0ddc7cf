"""Explanations: contributions sum to the score, and no prediction waits for an explanation."""

import asyncio
import sys

import numpy as np
import pytest

from services.model_registry.contract import LoadedVersion
from services.model_registry.golden_batch import GoldenBatch
from services.scoring.explanations import explainer
from streams import codec
from tests.unit.scoring.fakes import GatedModel, HalfOfX, event, predictor
from tests.unit.scoring.rest.clients import ROW
from tests.unit.scoring.rest.clients import client as http_client


class MixedInputs(HalfOfX):
    """Multiplies a number, a string and a feature that may be missing."""

    def predict(self, columns):
        super().predict(columns)  # which raises for the poison
        known = np.array([who is not None for who in columns["who"]])
        f = np.where(np.isnan(columns["f"]), -1.0, columns["f"])
        return columns["x"] * (1 + known) + f * columns["x"]


def client(**options):
    return http_client(m=predictor(**options))


def serve_background(http):
    rows = [ROW | {"id": f"b{n}", "x": n / 4, "who": None if n % 3 == 0 else "ab" * n} for n in range(8)]
    for row in rows:
        assert http.post("/predict", json={"rows": [row]}).status_code == 200


def test_contributions_and_base_value_sum_to_each_score():
    http = client(models={1: MixedInputs()})
    serve_background(http)
    response = http.post("/predict", json={"rows": [ROW, ROW | {"x": -2.0, "who": None}], "explain": True})
    assert response.status_code == 200
    for prediction in response.json()["predictions"]:
        explained = prediction["explanation"]
        assert list(explained["contributions"]) == ["x", "who", "f"]
        total = explained["base_value"] + sum(explained["contributions"].values())
        assert total == pytest.approx(prediction["score"])
        assert explained["contributions"]["x"] != 0


def test_multiclass_explains_the_probability_of_the_predicted_class():
    class Classes(HalfOfX):
        def predict(self, columns):
            high = np.clip(columns["x"] / 4, 0.1, 0.8)
            return np.column_stack([0.9 - high, high, np.full(len(high), 0.1)])

    declared = predictor().declaration.model_dump(by_alias=True)["label"]
    label = declared | {"schema": {"id": "string", "at": "timestamp", "y": "string"}, "positive_above": None}
    http = client(models={1: Classes()}, task="multiclass", classes=["a", "b", "c"], label=label)
    serve_background(http)
    response = http.post("/predict", json={"rows": [ROW | {"x": 3.0}], "explain": True})
    (prediction,) = response.json()["predictions"]
    assert prediction["prediction"] == "b"
    explained = prediction["explanation"]
    assert explained["base_value"] + explained["contributions"]["x"] == pytest.approx(0.75)


def test_the_inference_protocol_has_explanations_as_tensors():
    http = client(models={1: MixedInputs()})
    serve_background(http)
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
    response = http.post("/v2/models/m/infer", json={"inputs": inputs, "parameters": {"explain": True}})
    outputs = {output["name"]: output for output in response.json()["outputs"]}
    assert outputs["features"]["data"] == ["x", "who", "f"]
    assert outputs["contributions"]["shape"] == [1, 3]
    assert outputs["method"]["data"] == ["kernel"]
    total = outputs["base_value"]["data"][0] + sum(outputs["contributions"]["data"])
    assert total == pytest.approx(outputs["score"]["data"][0])


def test_more_rows_than_the_limit_are_rejected():
    response = client().post("/predict", json={"rows": [ROW] * 17, "explain": True})
    assert (response.status_code, response.json()["error"]) == (
        400,
        "explain: a request may have at most 16 rows, got 17",
    )


def test_without_the_library_the_response_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    http = client()
    serve_background(http)
    response = http.post("/predict", json={"rows": [ROW], "explain": True})
    assert response.status_code == 501
    assert "driftline[explain]" in response.json()["error"]


def test_the_largest_scores_are_explained():
    class Identity(HalfOfX):
        def predict(self, columns):
            return columns["x"]

    http = client(models={1: Identity()})
    for _ in range(explainer.OTHER_ROWS_MIN):
        http.post("/predict", json={"rows": [ROW | {"x": -codec.MAGNITUDE_MAX}]})
    body = {"rows": [ROW | {"x": codec.MAGNITUDE_MAX}], "explain": True}
    (prediction,) = http.post("/predict", json=body).json()["predictions"]
    explanation = prediction["explanation"]
    explained = explanation["base_value"] + sum(explanation["contributions"].values())
    assert explained == pytest.approx(codec.MAGNITUDE_MAX)


def test_predictions_do_not_wait_for_an_explanation():
    """The explanation calls the model on the thread for background work, a prediction on another."""

    class GatedBackground(GatedModel):
        """Waits only in calls with several rows, which an explanation makes."""

        def predict(self, columns):
            return HalfOfX.predict(self, columns) if len(columns["x"]) == 1 else super().predict(columns)

    model = GatedBackground()
    subject = predictor(models={1: model}, limits={"threads": 1})

    async def run():
        first = await subject.predict([event(subject.pipeline, 0)])
        for number in range(explainer.OTHER_ROWS_MIN):
            await subject.predict([event(subject.pipeline, number)])
        explaining = asyncio.create_task(subject.explain(first))
        await model.next_call()
        await subject.predict([event(subject.pipeline, 2)])
        assert not explaining.done()
        model.release()
        return await explaining

    (explanation,) = asyncio.run(run())
    assert explanation is not None


def test_an_explanation_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(explainer, "SECONDS_MAX", -1.0)
    model = GatedModel()
    model.release()
    http = client(models={1: model})
    serve_background(http)
    before = len(model.calls)
    response = http.post("/predict", json={"rows": [ROW], "explain": True})
    assert response.status_code == 504
    assert len(model.calls) == before + 1, "past its deadline the explanation makes no call of the model"


@pytest.mark.parametrize("rows", [1, 16])
def test_without_other_rows_there_is_no_explanation_and_the_response_says_so(rows):
    """Compared with itself, each feature of a row would have a contribution of 0."""
    body = {"rows": [ROW | {"id": str(number)} for number in range(rows)], "explain": True}
    response = client().post("/predict", json=body)
    assert response.status_code == 503
    assert "no background yet" in response.json()["error"]
    assert response.headers["Retry-After"]


def test_the_first_explanation_is_against_the_training_sample():
    """No other request was served. The base value is the mean score of the sample."""
    model = MixedInputs()
    sample = {
        "x": np.array([1.0, 2.0, 3.0, 4.0]),
        "who": np.array([None] * 4, dtype=object),
        "f": np.array([0.0, 0.0, 1.0, 1.0]),
    }
    version = LoadedVersion(model, GoldenBatch(sample, model.predict(sample)))
    response = client(models={1: version}).post("/predict", json={"rows": [ROW], "explain": True})
    assert response.status_code == 200
    (prediction,) = response.json()["predictions"]
    explained = prediction["explanation"]
    assert explained["base_value"] == pytest.approx(model.predict(sample).mean())
    assert explained["contributions"]["who"] != 0
    total = explained["base_value"] + sum(explained["contributions"].values())
    assert total == pytest.approx(prediction["score"])


def test_an_input_that_the_version_does_not_have_contributes_nothing():
    model = HalfOfX()
    version = LoadedVersion(model, GoldenBatch({"x": np.arange(4.0)}, np.arange(4.0) / 2))
    response = client(models={1: version}).post("/predict", json={"rows": [ROW], "explain": True})
    (prediction,) = response.json()["predictions"]
    contributions = prediction["explanation"]["contributions"]
    assert (contributions["who"], contributions["f"]) == (0, 0)
    assert contributions["x"] == pytest.approx(prediction["score"] - 0.75)


def test_the_background_has_the_rows_that_came_from_kafka():
    subject = predictor(models={1: MixedInputs()})
    http = http_client(m=subject)
    events = [event(subject.pipeline, number, x=number / 4) for number in range(4)]
    asyncio.run(subject.pipeline.score(events))
    response = http.post("/predict", json={"rows": [ROW], "explain": True})
    (prediction,) = response.json()["predictions"]
    assert prediction["explanation"]["contributions"]["x"] != 0


def test_a_recent_row_that_the_version_does_not_answer_is_no_background():
    """It was refused; the others are explained all the same."""
    http = client(models={1: MixedInputs(poison=7.0)})
    serve_background(http)
    assert http.post("/predict", json={"rows": [ROW | {"id": "bad", "x": 7.0}]}).status_code == 422
    response = http.post("/predict", json={"rows": [ROW], "explain": True})
    assert response.status_code == 200
    (prediction,) = response.json()["predictions"]
    explained = prediction["explanation"]
    total = explained["base_value"] + sum(explained["contributions"].values())
    assert total == pytest.approx(prediction["score"])
