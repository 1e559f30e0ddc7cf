"""W3C trace context through the scoring process, and spans for a collector that speaks OTLP/HTTP.

A request's ``traceparent`` and ``tracestate`` are copied to its prediction. With an endpoint, each request
whose sampled flag is set gets a span, a child of the request's span, and below it one span for each stage of
the slice in which it was scored; the prediction then names that span as its parent. Spans are sent in the
background and dropped if the collector is slow: tracing never delays a prediction.
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
"""Maximum time of one request to the collector: at shutdown the last spans are sent within 10 seconds."""

Header = tuple[str, bytes]
_stages: contextvars.ContextVar[list["StageTiming"] | None] = contextvars.ContextVar("stages", default=None)


class TracingError(RuntimeError):
    """Tracing is configured but not possible. The message says what to do."""


@dataclasses.dataclass(frozen=True)
class StageTiming:
    """One step in the processing of a whole slice, between two Unix times."""

    name: str
    start_ns: int
    stop_ns: int


@dataclasses.dataclass(frozen=True)
class SliceTraces:
    """The traced requests of a slice; usually none."""

    headers: dict[int, list[Header]]
    """The trace headers of each prediction, by the offset of its request."""
    spans: dict[int, "Span"]
    """The open spans of sampled requests, by offset; empty if spans are not exported."""


@contextlib.contextmanager
def collected_stages() -> Iterator[list[StageTiming]]:
    """Collect every `stage` within this block, also in the coroutines that it awaits."""
    stages: list[StageTiming] = []
    token = _stages.set(stages)
    try:
        yield stages
    finally:
        _stages.reset(token)


_UNTIMED = contextlib.nullcontext()


def stage(name: str) -> contextlib.AbstractContextManager[None]:
    """Time this block, if it runs within `collected_stages`."""
    stages = _stages.get()
    return _UNTIMED if stages is None else _TimedStage(name, stages)


class _TimedStage:
    """Without the generator of `contextlib`, which takes longer than some stages of a small slice."""

    __slots__ = ("_name", "_stages", "_start_ns")

    def __init__(self, name: str, stages: list[StageTiming]) -> None:
        self._name = name
        self._stages = stages

    def __enter__(self) -> None:
        self._start_ns = time.time_ns()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._stages.append(StageTiming(self._name, self._start_ns, time.time_ns()))


class Tracing:
    """Copies the trace context, and exports spans if there is a collector."""

    def __init__(self, endpoint: str, service: str) -> None:
        """Export spans to the collector at this URL, without a path; with '' only copy the context.

        Raises:
            TracingError: The packages for spans are not installed.
        """
        self._tracer = _connect(endpoint, service) if endpoint else None

    def begin(self, requests: Iterable[KafkaRecord], start_ns: int) -> SliceTraces:
        """Find the traced requests, and start the spans of those that are sampled."""
        # A record without headers, as most are, costs one test only.
        found = {
            record.offset: headers
            for record in requests
            if record.headers and (headers := codec.trace_headers(record.headers))
        }
        traces = SliceTraces(found, {})
        if found and self._tracer is not None:
            for offset, headers in found.items():
                self._begin_span(traces, offset, dict(headers), start_ns)
        return traces

    def _begin_span(self, traces: SliceTraces, offset: int, carrier: dict[str, bytes], start_ns: int) -> None:
        from opentelemetry.trace import SpanKind  # late: an optional package
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        assert self._tracer is not None
        propagator = TraceContextTextMapPropagator()
        parent = propagator.extract({name: value.decode() for name, value in carrier.items()})
        span = self._tracer.start_span("score", parent, SpanKind.CONSUMER, start_time=start_ns)
        if not span.is_recording():  # the request's sampled flag is not set
            return
        context = span.get_span_context()
        traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        traces.headers[offset] = list((carrier | {codec.TRACEPARENT_HEADER: traceparent.encode()}).items())
        traces.spans[offset] = span

    def end(self, traces: SliceTraces, stages: Iterable[StageTiming], model: str, partition: int) -> None:
        """End the spans, after the predictions are acknowledged."""
        if not traces.spans:
            return
        from opentelemetry import trace  # late: an optional package

        assert self._tracer is not None
        stages = list(stages)
        for offset, span in traces.spans.items():
            source = {"messaging.kafka.partition": partition, "messaging.kafka.offset": offset}
            span.set_attributes({"messaging.system": "kafka", "driftline.model": model, **source})
            context = trace.set_span_in_context(span)
            for each in stages:
                child = self._tracer.start_span(each.name, context, start_time=each.start_ns)
                child.end(each.stop_ns)
            span.end()


def with_trace_headers(
    headers: Iterator[list[Header]], offsets: Iterable[int], traces: SliceTraces
) -> Iterator[list[Header]]:
    """Yield the headers of each prediction with those of its trace added."""
    if not traces.headers:
        return headers
    return (
        [*record_headers, *traces.headers.get(offset, ())]
        for record_headers, offset in zip(headers, offsets, strict=False)
    )


def _connect(endpoint: str, service: str) -> Any:
    try:  # late: optional packages
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
    except ImportError as error:
        raise TracingError(
            f"DRIFTLINE_OTLP_ENDPOINT needs packages that are not installed ({error}); install them with: "
            "pip install 'driftline[tracing]'"
        ) from error
    resource = Resource.create({"service.name": f"driftline-{service}"})
    provider = TracerProvider(ParentBased(root=ALWAYS_OFF), resource)
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS_MAX)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer("driftline")
