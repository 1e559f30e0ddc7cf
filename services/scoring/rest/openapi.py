"""``GET /openapi.json``: our own REST API described, with the declared schemas of the models that are served.

The Open Inference Protocol has a description of its own, and is left out.
"""

import sys
from collections.abc import Mapping
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.runtime.declaration import ModelDeclaration
from services.scoring.explanations import explainer, shap_values
from services.scoring.online_predictor import Endpoint
from services.scoring.rest import request_handling
from services.scoring.rest.request_handling import Served
from streams.codec import Field, FieldType

_JSON_TYPES: Mapping[FieldType, dict[str, Any]] = {
    FieldType.STRING: {"type": "string"},
    FieldType.INT: {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    FieldType.FLOAT: {"type": "number", "minimum": -sys.float_info.max, "maximum": sys.float_info.max},
    FieldType.BOOL: {"type": "boolean"},
    FieldType.TIMESTAMP: {"type": "string", "format": "date-time"},
}
_ERRORS = {
    400: "the input cannot be understood; the message names its place",
    401: "no valid bearer token",
    403: "the model belongs to another team",
    404: "no such model",
    408: "the body came too slowly",
    413: "the body is too large",
    422: "a feature is missing without which there is no answer, no model was in effect at that time, or the "
    "event time is more than a day ahead",
    429: "too many requests of this token",
    500: "a defect, told in the log under the request's id",
    501: "an optional part is not installed",
    503: "overload, no model in effect yet, a server that is away, or the process is stopping",
    504: "the answer took longer than the model's limit",
}
_PREDICTED: Mapping[str, dict[str, Any]] = {
    "binary": {"type": "integer", "enum": [0, 1]},
    "regression": {"type": "number"},
    "multiclass": {"type": "string"},
}


def routes(served: Served) -> list[Route]:
    """Make the route."""

    async def described(request: Request) -> Response:
        return request_handling.as_json(document(request_handling.visible(served(), request)))

    return [Route("/openapi.json", request_handling.answering(described))]


def document(endpoints: Mapping[str, Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of these models' API."""
    declarations = [endpoint.declaration for endpoint in endpoints.values()]
    schemas = {"Error": _error()}
    for endpoint in endpoints.values():
        schemas |= _schemas(endpoint.declaration, named=len(declarations) > 1)
        schemas[f"{endpoint.declaration.name}.Label"] = _fields(endpoint.label_decoder.fields)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Driftline scoring", "version": request_handling.VERSION},
        "paths": {
            "/predict": {"post": _operation("Predict", "Answer rows", declarations, 200, "Predictions")},
            "/feedback": {"post": _operation("Feedback", "Take labels", declarations, 202, "Accepted")},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    what: str, summary: str, declarations: list[ModelDeclaration], status: int, result: str
) -> dict[str, Any]:
    """Describe a POST whose body is one of each model's: they differ in the schema of their rows."""
    bodies = [_reference(f"{each.name}.{what}") for each in declarations]
    results = [_reference(f"{each.name}.{result}") for each in declarations]
    errors = {str(code): _content(text, _reference("Error")) for code, text in _ERRORS.items()}
    return {
        "operationId": what.lower(),
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": bodies}}}},
        "responses": {str(status): _content(summary, {"anyOf": results}), **errors},
    }


def _schemas(declaration: ModelDeclaration, *, named: bool) -> dict[str, Any]:
    """Return the schemas of one model; ``named``: its name is needed, because it is not the only one."""
    name = declaration.name
    row = {"prediction_id": {"type": "string"}, "version": {"type": "integer"}, "arm": {"type": "string"}}
    row |= {"score": {"type": "number"}, "prediction": _PREDICTED[declaration.task]}
    if declaration.classes:
        row["probabilities"] = _list({"type": "number"}, len(declaration.classes), len(declaration.classes))
    told = row | {"explanation": {"anyOf": [_explanation(), {"type": "null"}]}}
    rows_max = declaration.limits.rows_max
    return {
        f"{name}.Request": _fields(declaration.request.fields),
        f"{name}.Predict": {
            "anyOf": [
                _object(
                    {
                        "model": {"const": name},
                        "rows": _list(_reference(f"{name}.Request"), 1, most),
                        "explain": {"type": "boolean", "const": explain},
                    },
                    [*(["model"] if named else []), "rows", *(["explain"] if explain else [])],
                )
                for most, explain in ((rows_max, False), (min(rows_max, explainer.ROWS_MAX), True))
            ]
        },
        f"{name}.Predictions": _object(
            {"model": {"const": name}, "predictions": _list(_object(told, list(row)), 1, rows_max)}
        ),
        f"{name}.Feedback": _object(
            {"model": {"const": name}, "labels": _list(_reference(f"{name}.Label"), 1, rows_max)},
            ["model", "labels"] if named else ["labels"],
        ),
        f"{name}.Accepted": _object({"model": {"const": name}, "accepted": {"type": "integer"}}),
    }


def _fields(fields: tuple[Field, ...]) -> dict[str, Any]:
    properties = {
        field.name: {"anyOf": [_JSON_TYPES[field.type], {"type": "null"}]}
        if field.nullable
        else _JSON_TYPES[field.type]
        for field in fields
    }
    return _object(properties, [field.name for field in fields if not field.nullable])


def _explanation() -> dict[str, Any]:
    numbers = {"type": "object", "additionalProperties": {"type": "number"}}
    method = {"type": "string", "enum": list(get_args(shap_values.Method))}
    return _object({"base_value": {"type": "number"}, "contributions": numbers, "method": method})


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
