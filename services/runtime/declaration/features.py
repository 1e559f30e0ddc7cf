"""The section ``features``: the inputs of a model."""

from typing import Literal, Self

from pydantic import Field, model_validator

from services.runtime.declaration.strict import Strict


class MissingValues(Strict):
    """How features without a value are handled. Each is counted, whatever is declared."""

    otherwise: Literal["pass", "reject"] = "pass"
    """What happens to other features without a value: ``pass`` gives the model a null, ``reject`` refuses the
    request."""
    reject: tuple[str, ...] = ()
    """Features without which a request is refused."""
    fill: dict[str, float | str] = Field({})
    """The value that the model gets instead, by feature. The log holds the value that was served."""

    @model_validator(mode="after")
    def _check_once(self) -> Self:
        if both := set(self.reject) & self.fill.keys():
            raise ValueError(
                f"reject and fill both name {', '.join(sorted(both))}: keep each name in one of them"
            )
        return self


class Features(Strict):
    """The inputs of the model."""

    service: str = ""
    """Name of the Feast FeatureService; empty: all inputs are fields of the request."""
    from_request: tuple[str, ...] = ()
    """Fields of the request that are inputs, in this order, before the features of the service."""
    missing: MissingValues = MissingValues()
    wait_seconds: float = Field(0.0, ge=0, le=600)
    """Maximum time that scoring waits for the features' watermark to pass the event time of a request."""
    after_wait: Literal["answer", "dead_letter"] = "answer"
    """What happens to a request that waited in vain: ``answer`` with the features that are there, or
    ``dead_letter``. Over HTTP nothing waits."""

    own_event: Literal["included", "excluded"] = "included"
    """Whether a request is in its own features, where its topic is also the source of their view."""

    @model_validator(mode="after")
    def _check_any(self) -> Self:
        if not self.service and not self.from_request:
            raise ValueError(
                "name a Feast FeatureService as service, fields of the request as from_request, or both"
            )
        return self
