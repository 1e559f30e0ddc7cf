"""The Open Inference Protocol, version 2, over REST, so that clients of KServe, Triton and MLServer can ask.

Inputs are tensors named as the fields of the request in model.yaml, of the shape [n] or [n, 1]; text and
timestamps (RFC 3339) are BYTES. Outputs: ``score`` and ``prediction``, for multiclass models
``probabilities``, then ``version`` and ``arm`` of each row; with the parameter ``explain`` also
``contributions`` [n, k], ``base_value`` [n], the names of the k ``features`` and the ``method`` [n]. JSON
only: the extension for binary tensors is not spoken.

A version in the path is answered by that version alone; without one, the arms answer by their shares.
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
from services.scoring.online_predictor import Answered, Endpoint
from services.scoring.rest import request_handling
from services.scoring.rest.request_handling import Served
from streams import codec
from streams.codec import FieldType

_INTEGERS = ("INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")
_TAKEN: Mapping[FieldType, Sequence[str]] = {
    FieldType.STRING: ("BYTES",),
    FieldType.TIMESTAMP: ("BYTES",),
    FieldType.BOOL: ("BOOL",),
    FieldType.INT: _INTEGERS,
    FieldType.FLOAT: ("FP64", "FP32", "FP16", *_INTEGERS),
}
"""By the type of a field: the datatypes that its tensor may have, first the one that the metadata names."""
_PREDICTION_TYPES = {"binary": "INT64", "regression": "FP64", "multiclass": "BYTES"}
_BINARY_HEADER = "inference-header-content-length"


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class _Wanted(msgspec.Struct):
    name: str


class _Inference(msgspec.Struct):
    inputs: list[_Input]
    outputs: list[_Wanted] = []
    id: str | None = None
    parameters: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An output."""

    name: str
    datatype: str
    shape: list[int]
    data: Sequence[Any]
    """Flat, in row-major order."""


def routes(served: Served, not_ready: NotReady) -> list[Route]:
    """Make the routes of the protocol."""

    async def server(_: Request) -> Response:
        return request_handling.as_json(
            {"name": "driftline", "version": request_handling.VERSION, "extensions": []}
        )

    async def live(_: Request) -> Response:
        return request_handling.as_json({"live": True})

    async def ready(_: Request) -> Response:
        is_ready = not_ready() is None
        return request_handling.as_json({"ready": is_ready}, 200 if is_ready else 503)

    async def model(request: Request) -> Response:
        endpoint, _ = _asked(served, request)
        return request_handling.as_json(_metadata(endpoint))

    async def model_ready(request: Request) -> Response:
        endpoint, _ = _asked(served, request)
        is_ready = bool(endpoint.versions)
        return request_handling.as_json({"name": endpoint.name, "ready": is_ready}, 200 if is_ready else 503)

    async def infer(request: Request) -> Response:
        began = time.perf_counter()
        endpoint, version = _asked(served, request)
        if _BINARY_HEADER in request.headers:
            raise RequestError(400, "binary tensors are not taken, send JSON (binary_data=False)")
        body = await request_handling.read(request, _Inference)
        events = _events(endpoint, body.inputs)
        explained = body.parameters.get("explain") is True
        request_handling.check_explained(len(events), explained=explained)
        answered = await endpoint.answer(events, version=version)
        endpoint.observe_seconds(time.perf_counter() - began)
        made = outputs(endpoint.declaration, answered)
        if explained:
            made += explanations(endpoint.scorer.feature_names, await endpoint.explain(answered))
        document = _response(endpoint, body, made)
        return request_handling.as_json(document)

    own = [
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
    ]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        own += [
            Route(path, request_handling.answering(model)),
            Route(f"{path}/ready", request_handling.answering(model_ready)),
            Route(f"{path}/infer", request_handling.answering(infer), methods=["POST"]),
        ]
    return own


def _asked(served: Served, request: Request) -> tuple[Endpoint, int | None]:
    endpoint = request_handling.choose(served(), request.path_params["name"], request)
    version = request.path_params.get("version")
    if version is None:
        return endpoint, None
    known = {str(number): number for number in endpoint.versions}
    if version not in known:
        raise RequestError(404, f"version {version!r} does not answer; those that do: {', '.join(known)}")
    return endpoint, known[version]


def _metadata(endpoint: Endpoint) -> dict[str, Any]:
    declaration = endpoint.declaration
    described = [
        ("score", "FP64", [-1]),
        ("prediction", _PREDICTION_TYPES[declaration.task], [-1]),
        ("probabilities", "FP64", [-1, len(declaration.classes)]),
        ("version", "INT64", [-1]),
        ("arm", "BYTES", [-1]),
    ]
    return {
        "name": endpoint.name,
        "versions": [str(version) for version in endpoint.versions],
        "platform": "driftline",
        "inputs": [
            {"name": field.name, "datatype": _TAKEN[field.type][0], "shape": [-1]}
            for field in declaration.request.fields
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": shape}
            for name, datatype, shape in described
            if name != "probabilities" or declaration.classes
        ],
    }


def _events(endpoint: Endpoint, inputs: Sequence[_Input]) -> list[Any]:
    """Turn tensors into decoded requests; raise `RequestError` with the tensor's name."""
    types = {field.name: field.type for field in endpoint.declaration.request.fields}
    columns: dict[str, list[Any]] = {}
    for tensor in inputs:
        if tensor.name not in types:
            raise RequestError(400, f"inputs: {tensor.name!r} is unknown; known are {', '.join(types)}")
        if tensor.name in columns:
            raise RequestError(400, f"inputs: {tensor.name!r} comes twice")
        columns[tensor.name] = _column(tensor, _TAKEN[types[tensor.name]])
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1:
        raise RequestError(400, f"inputs: the tensors must have the same number of rows, got {counts or 0}")
    request_handling.check_count("inputs", counts.pop(), endpoint.limits)
    events = []
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        try:
            events.append(endpoint.scorer.decoder.convert(dict(zip(columns, values, strict=True))))
        except codec.InvalidRecordError as error:
            raise RequestError(400, f"inputs, row {index}: {error}") from error
    return events


def _column(tensor: _Input, taken: Sequence[str]) -> list[Any]:
    if tensor.datatype not in taken:
        raise RequestError(400, f"inputs: {tensor.name!r} must be {' or '.join(taken)}")
    nested = all(isinstance(value, list) for value in tensor.data)
    data = list(itertools.chain.from_iterable(tensor.data)) if nested else tensor.data
    if tensor.shape not in ([len(data)], [len(data), 1]):
        raise RequestError(
            400, f"inputs: {tensor.name!r} has {len(data)} values, and its shape is {tensor.shape}"
        )
    return data


def outputs(declaration: ModelDeclaration, answered: Answered) -> list[Tensor]:
    """Return all outputs of n rows."""
    answers, count = answered.answers, len(answered.ids)
    found = [
        Tensor("score", "FP64", [count], answers.scores),
        Tensor("prediction", _PREDICTION_TYPES[declaration.task], [count], answers.predictions),
    ]
    if declaration.classes:
        flat = [share for shares in answers.probabilities if isinstance(shares, list) for share in shares]
        found.append(Tensor("probabilities", "FP64", [count, len(declaration.classes)], flat))
    found.append(Tensor("version", "INT64", [count], [arm.version for arm in answered.arms]))
    found.append(Tensor("arm", "BYTES", [count], [arm.name for arm in answered.arms]))
    return found


def explanations(names: Sequence[str], found: Sequence[Explanation | None]) -> list[Tensor]:
    """Return explanations of n rows, and the names of the k features; nulls where numbers overflowed."""
    nothing = [None] * len(names)
    flat = [value for one in found for value in (one.contributions if one else nothing)]
    return [
        Tensor("base_value", "FP64", [len(found)], [one and one.base_value for one in found]),
        Tensor("contributions", "FP64", [len(found), len(names)], flat),
        Tensor("features", "BYTES", [len(names)], names),
        Tensor("method", "BYTES", [len(found)], [one and one.method for one in found]),
    ]


def _response(endpoint: Endpoint, body: _Inference, made: Sequence[Tensor]) -> dict[str, Any]:
    """Put the wanted outputs together; all of them where none is named."""
    by_name = {tensor.name: tensor for tensor in made}
    unknown = [wanted.name for wanted in body.outputs if wanted.name not in by_name]
    if unknown:
        raise RequestError(400, f"outputs: {unknown[0]!r} is unknown; known are {', '.join(by_name)}")
    versions = set(by_name["version"].data)
    return {
        "model_name": endpoint.name,
        **({"model_version": str(versions.pop())} if len(versions) == 1 else {}),
        **({} if body.id is None else {"id": body.id}),
        "outputs": [by_name[wanted.name] for wanted in body.outputs] or list(made),
    }
