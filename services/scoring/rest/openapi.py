"""``GET /openapi.json``: the OpenAPI description of our REST API, with the schemas of the served models.

The Open Inference Protocol is left out: it has its own description.
"""

import sys
from collections.abc import Mapping
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.runtime.declaration import ModelDeclaration
from services.scoring.explanations import explainer, shap_values
from services.scoring.online_predictor import OnlinePredictor
from services.scoring.rest import feedback, http_requests
from services.scoring.rest.http_requests import ServedModels
from streams.codec import MAGNITUDE_MAX, Field, FieldType

_JSON_TYPES: Mapping[FieldType, dict[str, Any]] = {
    FieldType.STRING: {"type": "string"},
    FieldType.INT: {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    FieldType.FLOAT: {"type": "number", "minimum": -sys.float_info.max, "maximum": sys.float_info.max},
    FieldType.BOOL: {"type": "boolean"},
    FieldType.TIMESTAMP: {"type": "string", "format": "date-time"},
}
_ERRORS = {
    400: "The input is invalid; the message names the position.",
    401: "The request has no valid bearer token.",
    403: "The model belongs to another team.",
    404: "The model is not served.",
    408: "The request body arrived too slowly.",
    413: "The request body, or a label, is too large.",
    415: "The request body is not JSON.",
    422: "A required feature is missing, a row has too much text, the model fails on a row, no version of it "
    "was in effect at the event time, or the event time is in the future.",
    429: "The rate limit of this token is exceeded; retry after the seconds in the header Retry-After.",
    500: "The server has a defect; its log has an entry with the request id.",
    501: "The server lacks an optional package.",
    503: "The server is overloaded, has no version of the model in effect yet, could not load it, cannot "
    "reach another server, or is shutting down; retry.",
    504: "The request took longer than the model's time limit.",
}
_PREDICTION_SCHEMAS: Mapping[str, dict[str, Any]] = {
    "binary": {"type": "integer", "enum": [0, 1]},
    "regression": {"type": "number"},
    "multiclass": {"type": "string"},
}


def routes(models: ServedModels) -> list[Route]:
    """Return the route."""

    async def openapi(request: Request) -> Response:
        return http_requests.as_json(document(http_requests.visible(models.predictors(), request)))

    return [Route("/openapi.json", http_requests.handle_errors(openapi))]


def document(predictors: Mapping[str, OnlinePredictor]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of these models' API."""
    declarations = [predictor.declaration for predictor in predictors.values()]
    schemas = {"Error": _error()}
    for predictor in predictors.values():
        schemas |= _schemas(predictor.declaration, name_is_required=len(declarations) > 1)
        schemas[f"{predictor.declaration.name}.Label"] = _label(predictor)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Driftline scoring", "version": http_requests.VERSION},
        "paths": {
            "/predict": {"post": _operation("Predict", "Predict rows", declarations, 200, "Predictions")},
            "/feedback": {"post": _operation("Feedback", "Send labels", declarations, 202, "Accepted")},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    name: str, summary: str, declarations: list[ModelDeclaration], status: int, result: str
) -> dict[str, Any]:
    """Describe a POST whose body is that of one of the models: they differ in the schema of their rows."""
    bodies = [_reference(f"{each.name}.{name}") for each in declarations]
    results = [_reference(f"{each.name}.{result}") for each in declarations]
    errors = {str(code): _content(text, _reference("Error")) for code, text in _ERRORS.items()}
    return {
        "operationId": name.lower(),
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": bodies}}}},
        "responses": {str(status): _content(summary, {"anyOf": results}), **errors},
    }


def _schemas(declaration: ModelDeclaration, *, name_is_required: bool) -> dict[str, Any]:
    """Return the schemas of one model. Its name is required in a body if several models are served."""
    name = declaration.name
    row = {"prediction_id": {"type": "string"}, "version": {"type": "integer"}, "arm": {"type": "string"}}
    row |= {"score": {"type": "number"}, "prediction": _PREDICTION_SCHEMAS[declaration.task]}
    if declaration.classes:
        row["probabilities"] = _list({"type": "number"}, len(declaration.classes), len(declaration.classes))
    explained = row | {"explanation": {"anyOf": [_explanation(), {"type": "null"}]}}
    rows_max = declaration.limits.rows_max
    return {
        f"{name}.Request": _fields(declaration.request.bounded_fields),
        f"{name}.Predict": {
            "anyOf": [
                _object(
                    {
                        "model": {"const": name},
                        "rows": _list(_reference(f"{name}.Request"), 1, most),
                        "explain": {"type": "boolean", "const": explain},
                    },
                    [*(["model"] if name_is_required else []), "rows", *(["explain"] if explain else [])],
                )
                for most, explain in ((rows_max, False), (min(rows_max, explainer.ROWS_MAX), True))
            ]
        },
        f"{name}.Predictions": _object(
            {"model": {"const": name}, "predictions": _list(_object(explained, list(row)), 1, rows_max)}
        ),
        f"{name}.Feedback": _object(
            {"model": {"const": name}, "labels": _list(_reference(f"{name}.Label"), 1, rows_max)},
            ["model", "labels"] if name_is_required else ["labels"],
        ),
        f"{name}.Accepted": _object(
            {
                "model": {"const": name},
                "accepted": {"type": "integer"},
                "labels": _list(_label_answer(), 1, rows_max),
            }
        ),
    }


def _fields(fields: tuple[Field, ...]) -> dict[str, Any]:
    properties = {
        field.name: {"anyOf": [_json_type(field), {"type": "null"}]} if field.nullable else _json_type(field)
        for field in fields
    }
    return _object(properties, [field.name for field in fields if not field.nullable])


def _label(predictor: OnlinePredictor) -> dict[str, Any]:
    """Describe a label: its value is never null, and is a declared class or a number of bounded magnitude."""
    declaration, fields = predictor.declaration, predictor.label_decoder.fields
    schema = _fields(fields)
    field = next(each for each in fields if each.name == declaration.label.value)
    value = _json_type(field)
    if declaration.classes and field.type is FieldType.STRING:
        value |= {"enum": list(declaration.classes)}
    elif field.type is FieldType.FLOAT:
        value |= {"minimum": -MAGNITUDE_MAX, "maximum": MAGNITUDE_MAX}
    schema["properties"][field.name] = value
    schema["required"] = sorted({*schema["required"], field.name})
    return schema


def _json_type(field: Field) -> dict[str, Any]:
    longest = {} if field.characters_max is None else {"maxLength": field.characters_max}
    return _JSON_TYPES[field.type] | longest


def _explanation() -> dict[str, Any]:
    numbers = {"type": "object", "additionalProperties": {"type": "number"}}
    method = {"type": "string", "enum": list(get_args(shap_values.Method))}
    return _object({"base_value": {"type": "number"}, "contributions": numbers, "method": method})


def _label_answer() -> dict[str, Any]:
    times = ("counts_from_ms", "requests_from_ms", "requests_to_ms")
    instants = {name: {"type": "integer"} for name in times}
    result = {"type": "string", "enum": list(get_args(feedback.Result))}
    return _object({"prediction_id": {"type": "string"}, **instants, "result": result})


def _error() -> dict[str, Any]:
    return _object({"error": {"type": "string"}, "request_id": {"type": "string"}}, ["error"])


def _object(properties: Mapping[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or list(properties)}


def _list(items: Mapping[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _content(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
