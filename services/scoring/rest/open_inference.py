"""The Open Inference Protocol, version 2, over REST, for clients of KServe, Triton and MLServer.

Inputs are tensors named as the request fields of model.yaml, of shape [n] or [n, 1]; strings and timestamps
(RFC 3339) are BYTES. Outputs are ``score`` and ``prediction``, for multiclass models ``probabilities``, then
``version`` and ``arm`` of each row. The parameter ``explain`` adds ``contributions`` [n, k], ``base_value``
[n], the names of the k ``features`` and the ``method`` [n]. Only JSON is supported, not the extension for
binary tensors.

A version in the path predicts for all rows; without one, the arms get their shares of the rows.
Specification: https://github.com/kserve/open-inference-protocol
"""

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.runtime.declaration import ModelDeclaration
from services.runtime.web.server import NotReady, RequestError
from services.scoring.explanations.shap_values import Explanation
from services.scoring.online_predictor import OnlinePredictions, OnlinePredictor
from services.scoring.rest import http_requests
from services.scoring.rest.http_requests import ServedModels
from streams import codec
from streams.codec import FieldType
from streams.json_decoder import JsonDecoder

_INTEGERS = ("INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")
_DATATYPES: Mapping[FieldType, Sequence[str]] = {
    FieldType.STRING: ("BYTES",),
    FieldType.TIMESTAMP: ("BYTES",),
    FieldType.BOOL: ("BOOL",),
    FieldType.INT: _INTEGERS,
    FieldType.FLOAT: ("FP64", "FP32", "FP16", *_INTEGERS),
}
"""The datatypes that a tensor may have, by the type of its field; the first one is in the metadata."""
_PREDICTION_DATATYPES = {"binary": "INT64", "regression": "FP64", "multiclass": "BYTES"}
_BINARY_HEADER = "inference-header-content-length"


class _InputTensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class _RequestedOutput(msgspec.Struct):
    name: str


class _InferenceBody(msgspec.Struct):
    inputs: list[_InputTensor]
    outputs: list[_RequestedOutput] = []
    id: str | None = None
    parameters: dict[str, Any] = {}


_BODIES: JsonDecoder[_InferenceBody] = JsonDecoder(_InferenceBody)


@dataclasses.dataclass(frozen=True)
class OutputTensor:
    """One output of a response."""

    name: str
    datatype: str
    shape: list[int]
    data: Sequence[Any]
    """Flat, in row-major order."""


def routes(models: ServedModels, not_ready: NotReady) -> list[Route]:
    """Return the routes of the protocol."""

    async def model(request: Request) -> Response:
        predictor, _ = _choose(models, request)
        return http_requests.as_json(_metadata(predictor))

    async def model_ready(request: Request) -> Response:
        predictor, version = _choose(models, request)
        return _readiness({"name": predictor.name}, predictor.not_ready(version))

    async def infer(request: Request) -> Response:
        start = time.perf_counter()
        predictor, version = _choose(models, request)
        if _BINARY_HEADER in request.headers:
            raise RequestError(400, "binary tensors are not supported; send JSON (binary_data=False)")
        body = await http_requests.read(request, _BODIES)
        events = _events(predictor, body.inputs)
        explained = body.parameters.get("explain") is True
        http_requests.check_explained(len(events), explained=explained)
        predictions = await predictor.predict(events, version=version)
        predictor.observe_seconds(time.perf_counter() - start)
        tensors = outputs(predictor.declaration, predictions)
        if explained:
            names = predictor.pipeline.features.names
            tensors += explanation_tensors(names, await predictor.explain(predictions))
        document = _response(predictor, body, tensors)
        return http_requests.answer(request, predictor, predictions, document)

    found = _server_routes(not_ready)
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        found += [
            Route(path, http_requests.handle_errors(model)),
            Route(f"{path}/ready", http_requests.handle_errors(model_ready)),
            Route(f"{path}/infer", http_requests.handle_errors(infer), methods=["POST"]),
        ]
    return found


def _server_routes(not_ready: NotReady) -> list[Route]:
    async def server(_: Request) -> Response:
        return http_requests.as_json(
            {"name": "driftline", "version": http_requests.VERSION, "extensions": []}
        )

    async def live(_: Request) -> Response:
        return http_requests.as_json({"live": True})

    async def ready(_: Request) -> Response:
        return _readiness({}, not_ready())

    return [
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
    ]


def _readiness(subject: Mapping[str, str], reason: str | None) -> Response:
    if reason is None:
        return http_requests.as_json({**subject, "ready": True})
    return http_requests.as_json({**subject, "ready": False, "reason": reason}, 503)


def _choose(models: ServedModels, request: Request) -> tuple[OnlinePredictor, int | None]:
    """Return the model in the path, and the version if there is one."""
    predictor = http_requests.choose(models, request.path_params["name"], request)
    version = request.path_params.get("version")
    if version is None:
        return predictor, None
    known = {str(number): number for number in predictor.versions}
    if version not in known:
        names = ", ".join(known) or "none"
        raise RequestError(404, f"version {version!r} is in no arm; the versions in use are: {names}")
    return predictor, known[version]


def _metadata(predictor: OnlinePredictor) -> dict[str, Any]:
    declaration = predictor.declaration
    tensors = [
        ("score", "FP64", [-1]),
        ("prediction", _PREDICTION_DATATYPES[declaration.task], [-1]),
        ("probabilities", "FP64", [-1, len(declaration.classes)]),
        ("version", "INT64", [-1]),
        ("arm", "BYTES", [-1]),
    ]
    return {
        "name": predictor.name,
        "versions": [str(version) for version in predictor.versions],
        "platform": "driftline",
        "inputs": [
            {"name": field.name, "datatype": _DATATYPES[field.type][0], "shape": [-1]}
            for field in declaration.request.fields
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": shape}
            for name, datatype, shape in tensors
            if name != "probabilities" or declaration.classes
        ],
    }


def _events(predictor: OnlinePredictor, inputs: Sequence[_InputTensor]) -> list[Any]:
    """Return tensors as decoded requests; raise `RequestError` with the tensor's name."""
    columns = _columns({field.name: field.type for field in predictor.declaration.request.fields}, inputs)
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1:
        found = ", ".join(map(str, sorted(counts))) or "no tensors"
        raise RequestError(400, f"inputs: all tensors must have the same number of rows, got {found}")
    http_requests.check_count("inputs", counts.pop(), predictor.limits)
    events = []
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        try:
            events.append(predictor.pipeline.decoder.convert(dict(zip(columns, values, strict=True))))
        except codec.InvalidRecordError as error:
            raise RequestError(400, f"inputs, row {index}: {error}") from error
    return events


def _columns(types: Mapping[str, FieldType], inputs: Sequence[_InputTensor]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for tensor in inputs:
        if tensor.name not in types:
            known = ", ".join(types)
            raise RequestError(400, f"inputs: the tensor {tensor.name!r} is unknown; known are: {known}")
        if tensor.name in columns:
            raise RequestError(400, f"inputs: the tensor {tensor.name!r} is given twice")
        columns[tensor.name] = _column(tensor, _DATATYPES[types[tensor.name]])
    return columns


def _column(tensor: _InputTensor, datatypes: Sequence[str]) -> list[Any]:
    if tensor.datatype not in datatypes:
        allowed = " or ".join(datatypes)
        message = f"inputs: the datatype of {tensor.name!r} must be {allowed}, got {tensor.datatype!r}"
        raise RequestError(400, message)
    nested = all(isinstance(value, list) for value in tensor.data)
    data = list(itertools.chain.from_iterable(tensor.data)) if nested else tensor.data
    if tensor.shape not in ([len(data)], [len(data), 1]):
        count = len(data)
        message = (
            f"inputs: {tensor.name!r} has {count} values, so its shape must be [{count}] or [{count}, 1]"
        )
        raise RequestError(400, f"{message}, got {tensor.shape}")
    return data


def outputs(declaration: ModelDeclaration, predictions: OnlinePredictions) -> list[OutputTensor]:
    """Return all output tensors of n rows."""
    columns, count = predictions.columns, len(predictions.ids)
    found = [
        OutputTensor("score", "FP64", [count], columns.scores),
        OutputTensor("prediction", _PREDICTION_DATATYPES[declaration.task], [count], columns.predictions),
    ]
    if declaration.classes:
        flat = [value for values in columns.probabilities if isinstance(values, list) for value in values]
        found.append(OutputTensor("probabilities", "FP64", [count, len(declaration.classes)], flat))
    found.append(OutputTensor("version", "INT64", [count], [arm.version for arm in predictions.arms]))
    found.append(OutputTensor("arm", "BYTES", [count], [arm.name for arm in predictions.arms]))
    return found


def explanation_tensors(
    names: Sequence[str], explanations: Sequence[Explanation | None]
) -> list[OutputTensor]:
    """Return the explanations of n rows and the names of the k features; null where numbers overflowed."""
    count, empty = len(explanations), [None] * len(names)
    flat = [value for one in explanations for value in (one.contributions if one else empty)]
    return [
        OutputTensor("base_value", "FP64", [count], [one and one.base_value for one in explanations]),
        OutputTensor("contributions", "FP64", [count, len(names)], flat),
        OutputTensor("features", "BYTES", [len(names)], names),
        OutputTensor("method", "BYTES", [count], [one and one.method for one in explanations]),
    ]


def _response(
    predictor: OnlinePredictor, body: _InferenceBody, tensors: Sequence[OutputTensor]
) -> dict[str, Any]:
    """Return the response with the requested outputs; with all of them if none is requested."""
    by_name = {tensor.name: tensor for tensor in tensors}
    unknown = [requested.name for requested in body.outputs if requested.name not in by_name]
    if unknown:
        known = ", ".join(by_name)
        raise RequestError(400, f"outputs: the tensor {unknown[0]!r} is unknown; known are: {known}")
    versions = set(by_name["version"].data)
    return {
        "model_name": predictor.name,
        **({"model_version": str(versions.pop())} if len(versions) == 1 else {}),
        **({} if body.id is None else {"id": body.id}),
        "outputs": [by_name[requested.name] for requested in body.outputs] or list(tensors),
    }
