"""The Open Inference Protocol: the response of each route, and rejected input with its name."""

import pytest

from streams.records import Arm
from tests.unit.scoring.fakes import CHAMPION, HalfOfX, predictor
from tests.unit.scoring.rest import clients

INPUTS = [
    {"name": "id", "datatype": "BYTES", "shape": [2], "data": ["r0", "r1"]},
    {"name": "at", "datatype": "BYTES", "shape": [2], "data": ["2013-07-01T16:05:00Z"] * 2},
    {"name": "x", "datatype": "FP64", "shape": [2, 1], "data": [1.2, 0.2]},
]
CANARY = Arm(name="canary", version=2, weight=0)


def client(not_ready=lambda: None, **options):
    return clients.client(not_ready=not_ready, m=predictor(**options))


def infer(http, path="/v2/models/m/infer", **body):
    return http.post(path, json={"inputs": INPUTS} | body)


def with_input(name, /, **changes):
    return [one | changes if one["name"] == name else one for one in INPUTS]


def test_rows_are_tensors_and_the_response_has_the_request_s_id():
    response = infer(client(), id="42")
    assert response.status_code == 200
    assert response.json() == {
        "model_name": "m",
        "model_version": "1",
        "id": "42",
        "outputs": [
            {"name": "score", "datatype": "FP64", "shape": [2], "data": [0.6, 0.1]},
            {"name": "prediction", "datatype": "INT64", "shape": [2], "data": [1, 0]},
            {"name": "version", "datatype": "INT64", "shape": [2], "data": [1, 1]},
            {"name": "arm", "datatype": "BYTES", "shape": [2], "data": ["champion", "champion"]},
        ],
    }


def test_nested_data_is_the_same_as_flat_data():
    assert infer(client(), inputs=with_input("x", data=[[1.2], [0.2]])).json() == infer(client()).json()


def test_a_row_dated_in_the_future_is_rejected_with_and_without_a_version():
    inputs = with_input("at", data=["2013-07-01T16:05:00Z", "3000-01-01T00:00:00Z"])
    for path in ("/v2/models/m/infer", "/v2/models/m/versions/1/infer"):
        response = infer(client(), path, inputs=inputs)
        assert response.status_code == 422
        assert "rows[1]: the event time 32503680000000 ms is" in response.json()["error"]


def test_only_the_requested_outputs_are_sent_in_the_requested_order():
    response = infer(client(), outputs=[{"name": "arm"}, {"name": "score", "parameters": {}}])
    assert [output["name"] for output in response.json()["outputs"]] == ["arm", "score"]


def test_multiclass_has_a_row_of_probabilities_for_each_row():
    class Thirds(HalfOfX):
        def predict(self, columns):
            return [[0.2, 0.3, 0.5]] * len(columns["x"])

    label = predictor().declaration.model_dump(by_alias=True)["label"] | {
        "schema": {"id": "string", "at": "timestamp", "y": "string"},
        "positive_above": None,
    }
    http = client(models={1: Thirds()}, task="multiclass", classes=["a", "b", "c"], label=label)
    outputs = {output["name"]: output for output in infer(http).json()["outputs"]}
    assert (outputs["prediction"]["datatype"], outputs["prediction"]["data"]) == ("BYTES", ["c", "c"])
    assert outputs["probabilities"]["shape"] == [2, 3]
    assert outputs["probabilities"]["data"] == [0.2, 0.3, 0.5] * 2
    described = {output["name"]: output for output in http.get("/v2/models/m").json()["outputs"]}
    assert described["probabilities"] == {"name": "probabilities", "datatype": "FP64", "shape": [-1, 3]}


def test_a_version_in_the_path_predicts_for_all_rows():
    http = client(arms=[CHAMPION, CANARY])
    first, second = (infer(http, f"/v2/models/m/versions/{number}/infer").json() for number in (1, 2))
    assert (first["model_version"], second["model_version"]) == ("1", "2")
    assert second["outputs"][0]["data"] == pytest.approx([0.7, 0.2])
    assert infer(http, "/v2/models/m/versions/3/infer").json() == {
        "error": "version '3' is in no arm; the versions in use are: 1, 2"
    }


def test_the_metadata_names_every_tensor():
    assert client().get("/v2").json().keys() == {"name", "version", "extensions"}
    assert client().get("/v2/models/m").json() == client().get("/v2/models/m/versions/1").json()
    described = client().get("/v2/models/m").json()
    assert described["versions"] == ["1"]
    assert described["inputs"] == [
        {"name": "id", "datatype": "BYTES", "shape": [-1]},
        {"name": "at", "datatype": "BYTES", "shape": [-1]},
        {"name": "x", "datatype": "FP64", "shape": [-1]},
        {"name": "who", "datatype": "BYTES", "shape": [-1]},
    ]


def test_readiness_is_that_of_the_process_and_of_each_model():
    http = client()
    paths = ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready", "/v2/models/m/versions/1/ready")
    assert [http.get(path).status_code for path in paths] == [200] * 4
    assert http.get("/v2/models/n/ready").status_code == 404
    assert client(lambda: "stopping").get("/v2/health/ready").status_code == 503
    assert client(arms=[]).get("/v2/models/m/ready").status_code == 503


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"inputs": []}, "all tensors must have the same number of rows, got"),
        ({"inputs": INPUTS[:2]}, "missing required field `x`"),
        ({"inputs": [*INPUTS, INPUTS[0]]}, "'id' is given twice"),
        ({"inputs": with_input("x", name="z")}, "'z' is unknown; known are: id, at, x, who"),
        ({"inputs": with_input("x", datatype="BYTES")}, "the datatype of 'x' must be FP64 or FP32"),
        (
            {"inputs": with_input("x", shape=[3])},
            "'x' has 2 values, so its shape must be [2] or [2, 1], got [3]",
        ),
        (
            {"inputs": with_input("x", shape=[1], data=[1.0])},
            "all tensors must have the same number of rows, got",
        ),
        ({"inputs": with_input("x", data=[1.0, "high"])}, "row 1: Expected `float`, got `str` - at `$.x`"),
        ({"inputs": with_input("at", data=["now", "then"])}, "row 0: Invalid RFC3339"),
        ({"outputs": [{"name": "raw"}]}, "'raw' is unknown"),
        ({"inputs": 1}, "Expected `array`"),
    ],
)
def test_invalid_input_is_named_in_the_protocol_s_own_form(body, text):
    response = infer(client(), **body)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert text in response.json()["error"]


def test_the_rejection_of_binary_tensors_says_what_to_do():
    response = client().post("/v2/models/m/infer", json={}, headers={"Inference-Header-Content-Length": "2"})
    assert response.status_code == 400
    assert "binary_data=False" in response.json()["error"]
