"""The section ``limits``: what one model may take of the scoring process."""

from pydantic import Field

from services.runtime.declaration.strict import Strict


class Limits(Strict):
    """Limits of one model in the scoring process, so that it does not slow down the others."""

    slice_records_max: int = Field(2000, ge=1, le=100_000)
    """Maximum requests of one partition that are scored together."""
    in_flight_mib_max: int = Field(32, ge=1, le=1024)
    """Maximum size of the requests that are fetched and not yet scored."""
    threads: int = Field(2, ge=1, le=64)
    """Maximum concurrent calls of the model."""
    rows_max: int = Field(1000, ge=1, le=100_000)
    """Maximum rows of one HTTP request."""
    requests_max: int = Field(64, ge=1, le=10_000)
    """Maximum concurrent HTTP requests; further ones are refused."""
    seconds_max: float = Field(5.0, gt=0, le=600)
    """Timeout of an HTTP request."""
    shadow_wait_ms: float = Field(20.0, ge=0, le=10_000)
    """How much longer than the prediction shadows may take; later scores are dropped and counted. A replay
    (``features.wait_seconds``) waits for them."""
