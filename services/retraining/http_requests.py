"""What becomes of an HTTP call for a retraining. Pure; the route: `services.retraining.request_api`."""

import uuid
from typing import Annotated

import msgspec

from services.retraining.errors import without_gates
from services.retraining.history import RetrainingHistory
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.web.server import RequestError
from streams.records import RetrainingRequested

REASON_CHARS_MAX = 1000


class RetrainingCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a call; all of it is optional."""

    request_id: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$")] = ""
    """The same id twice is one request; empty: a new one."""
    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARS_MAX)] = "over HTTP"


class RetrainingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the answer."""

    model: str
    request_id: str
    repeated: bool
    """Whether there was a request of this id before; then this call has made none."""
    result: str | None = None
    """The result of the request; null: it has none yet."""
    version: int = 0
    """The version of the candidate; 0: none was registered."""
    reasons: list[str] = []
    """Why the candidate was rejected, or what failed."""


def decided(
    model: str, call: RetrainingCall, history: RetrainingHistory, folder: DeclarationFolder, now_ms: int
) -> tuple[RetrainingAnswer, RetrainingRequested | None]:
    """Return the answer to a call, and the request to write; None if there is one of this id.

    A model with an open request is refused: the caller would otherwise take another request, on older data,
    for its own, or a script that retries without an id would queue trainings of hours.

    Raises:
        RequestError: 404, 409 or 422, with what to do.
    """
    _check_model(model, folder)
    owner = history.model_of(call.request_id)
    if owner == model:
        return _repeated(model, call.request_id, history), None
    if owner is not None:
        message = f"request_id {call.request_id!r} belongs to a retraining of {owner}: give another one"
        raise RequestError(409, message)
    if opened := history.open_requests(model):
        raise RequestError(
            409,
            f"{model} is retrained already, for request_id {', '.join(opened)}: wait for its result and call "
            "again, or call with that request_id to see it",
        )
    request = RetrainingRequested(
        request_id=call.request_id or f"{model}-http-{now_ms}-{uuid.uuid4().hex[:6]}",
        model=model,
        trigger="http",
        requested_at_ms=now_ms,
        reason=call.reason,
    )
    return RetrainingAnswer(model=model, request_id=request.request_id, repeated=False), request


def _check_model(model: str, folder: DeclarationFolder) -> None:
    if model in folder.faults:
        message = f"the model.yaml of {model} is invalid, mend it: {folder.faults[model]}"
        raise RequestError(422, message)
    if model not in folder.valid:
        message = f"there is no model {model!r}; declared models: {', '.join(folder.valid)}"
        raise RequestError(404, message)
    if folder.valid[model].gates is None:
        raise RequestError(422, without_gates(model))


def _repeated(model: str, request_id: str, history: RetrainingHistory) -> RetrainingAnswer:
    finished = history.result_of(request_id)
    if finished is None:
        return RetrainingAnswer(model=model, request_id=request_id, repeated=True)
    return RetrainingAnswer(
        model=model,
        request_id=request_id,
        repeated=True,
        result=finished.result,
        version=finished.version,
        reasons=finished.reasons,
    )
