"""W3C trace context through the scoring process, and spans of it for who collects them over OTLP/HTTP.

A request's ``traceparent`` and ``tracestate`` go on into its prediction. With an endpoint, each request
whose sampled flag is set gets a span, the child of the request's, and one span below it for each stage of
the slice in which it was scored; the prediction then names that span as its parent. Spans are sent in the
background and dropped when the collector is slow: tracing never holds a prediction back.
"""

import contextlib
import contextvars
import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from streams import codec
from streams.codec import KafkaRecord

if TYPE_CHECKING:
    from opentelemetry.trace import Span

EXPORT_SECONDS_MAX = 3
"""Of one request to the collector: a process must end within 10 seconds, with the last spans sent."""

Header = tuple[str, bytes]
_stages: contextvars.ContextVar[list["Stage"] | None] = contextvars.ContextVar("stages", default=None)


class TracingError(RuntimeError):
    """Tracing is asked for and cannot be. The message says what to do."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """What was done with a whole slice between two wall times, in nanoseconds."""

    name: str
    began_ns: int
    ended_ns: int


@dataclasses.dataclass(frozen=True)
class Traces:
    """The traced requests of a slice; mostly none."""

    headers: dict[int, list[Header]]
    """By the request's offset: what goes on with its prediction."""
    spans: dict[int, "Span"]
    """By the request's offset, of the sampled ones, where spans are exported."""


@contextlib.contextmanager
def noted_stages() -> Iterator[list[Stage]]:
    """Note every `stage` within this block, also in the coroutines that it awaits."""
    stages: list[Stage] = []
    token = _stages.set(stages)
    try:
        yield stages
    finally:
        _stages.reset(token)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Note how long this block took, if anybody takes notes."""
    stages, began_ns = _stages.get(), time.time_ns()
    yield
    if stages is not None:
        stages.append(Stage(name, began_ns, time.time_ns()))


class Tracing:
    """Carries the trace context, and makes the spans if there is somewhere to send them."""

    def __init__(self, endpoint: str, service: str) -> None:
        """Send to the collector at this URL, without path; none: only carry.

        Raises:
            TracingError: The packages for spans are not installed.
        """
        self._tracer = _connect(endpoint, service) if endpoint else None

    def begin(self, requests: Iterable[tuple[KafkaRecord, Any]], began_ns: int) -> Traces:
        """Look which requests are traced, and begin the spans of those that are sampled."""
        # A record without headers, as most are, costs one test and no more.
        found = {
            record.offset: carried
            for record, _ in requests
            if record.headers and (carried := codec.trace_headers(record.headers))
        }
        traces = Traces(found, {})
        if found and self._tracer is not None:
            for offset, headers in found.items():
                self._begin_span(traces, offset, dict(headers), began_ns)
        return traces

    def _begin_span(self, traces: Traces, offset: int, carrier: dict[str, bytes], began_ns: int) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        assert self._tracer is not None
        propagator = TraceContextTextMapPropagator()
        parent = propagator.extract({name: value.decode() for name, value in carrier.items()})
        span = self._tracer.start_span("score", parent, SpanKind.CONSUMER, start_time=began_ns)
        if not span.is_recording():  # the flag of the request says no
            return
        context = span.get_span_context()
        ours = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        traces.headers[offset] = list((carrier | {codec.TRACEPARENT_HEADER: ours.encode()}).items())
        traces.spans[offset] = span

    def end(self, traces: Traces, stages: Iterable[Stage], model: str, partition: int) -> None:
        """End the spans, once the predictions are acknowledged."""
        if not traces.spans:
            return
        from opentelemetry import trace

        assert self._tracer is not None
        stages = list(stages)
        for offset, span in traces.spans.items():
            place = {"messaging.kafka.partition": partition, "messaging.kafka.offset": offset}
            span.set_attributes({"messaging.system": "kafka", "driftline.model": model, **place})
            context = trace.set_span_in_context(span)
            for each in stages:
                child = self._tracer.start_span(each.name, context, start_time=each.began_ns)
                child.end(each.ended_ns)
            span.end()


def carrying(
    headers: Iterator[list[Header]], offsets: Iterable[int], traces: Traces
) -> Iterator[list[Header]]:
    """Add to the headers of each prediction those of its trace."""
    if not traces.headers:
        return headers
    return ([*own, *traces.headers.get(offset, ())] for own, offset in zip(headers, offsets, strict=False))


def _connect(endpoint: str, service: str) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
    except ImportError as error:
        raise TracingError(
            f"DRIFTLINE_OTLP_ENDPOINT needs packages that are not installed ({error}): "
            "pip install 'driftline[tracing]'"
        ) from error
    resource = Resource.create({"service.name": f"driftline-{service}"})
    provider = TracerProvider(ParentBased(root=ALWAYS_OFF), resource)
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS_MAX)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer("driftline")
