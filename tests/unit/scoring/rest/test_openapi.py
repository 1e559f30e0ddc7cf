"""The OpenAPI description agrees with the declarations of the served models."""

from services.scoring.rest import openapi
from tests.unit.scoring.fakes import predictor
from tests.unit.scoring.rest.clients import client


def test_request_fields_have_their_declared_types_and_nullable_ones_are_optional():
    request = openapi.document({"m": predictor()})["components"]["schemas"]["m.Request"]
    assert request["required"] == ["id", "at", "x"]
    assert request["properties"]["at"] == {"type": "string", "format": "date-time"}
    assert request["properties"]["who"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}


def test_the_model_s_name_is_required_if_several_are_served():
    def required(*names):
        document = openapi.document({name: predictor(name=name) for name in names})
        schemas = document["components"]["schemas"]
        return schemas["m.Predict"]["anyOf"][0]["required"], schemas["m.Feedback"]["required"]

    assert required("m") == (["rows"], ["labels"])
    assert required("m", "n") == (["model", "rows"], ["model", "labels"])


def test_rows_are_bounded_as_declared_and_explained_rows_by_less():
    document = openapi.document({"m": predictor(limits={"rows_max": 50})})
    bodies = document["components"]["schemas"]["m.Predict"]["anyOf"]
    assert [body["properties"]["rows"]["maxItems"] for body in bodies] == [50, 16]


def test_every_response_of_a_route_is_described():
    document = client().get("/openapi.json").json()
    for path in ("/predict", "/feedback"):
        described = document["paths"][path]["post"]["responses"]
        assert {"400", "401", "403", "404", "408", "413", "422", "429", "500", "501", "503", "504"} < set(
            described
        )
        assert all(response["description"] for response in described.values())


def test_the_value_of_a_label_is_a_declared_class_or_a_bounded_number():
    def value(**declared):
        document = openapi.document({"m": predictor(**declared)})
        return document["components"]["schemas"]["m.Label"]["properties"]["y"]

    assert value() == {"type": "number", "minimum": -1e60, "maximum": 1e60}
    label = {
        "topic": "labels",
        "id": "id",
        "event_time": "at",
        "value": "y",
        "horizon_hours": 1,
        "schema": {"id": "string", "at": "timestamp", "y": "string?"},
    }
    classes = ["red", "green", "blue"]
    assert value(task="multiclass", classes=classes, label=label) == {"type": "string", "enum": classes}
