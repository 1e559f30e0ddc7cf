"""A trace continues from the request to the prediction; spans go to a collector that speaks OTLP/HTTP."""

import asyncio
import sys
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.scoring import tracing
from services.scoring.kafka_agent import ScoringAgent
from services.scoring.tracing import Tracing, TracingError
from streams import codec, topics
from streams.slices import Slice
from tests.unit.scoring import fakes
from tests.waiting import LIVENESS_SECONDS

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01".encode()
UNSAMPLED = f"00-{TRACE}-{PARENT}-00".encode()
SECONDS_MAX = LIVENESS_SECONDS


class Collector(ThreadingHTTPServer):
    """Keeps the spans that it receives; responds while it is open."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.is_open = threading.Event()
        self.is_open.set()
        self.services: set[str] = set()
        self._spans: list[Any] = []
        self._received = threading.Condition()

    def add(self, spans: list[Any]) -> None:
        with self._received:
            self._spans += spans
            self._received.notify_all()

    def wait_for(self, count: int) -> list[Any]:
        with self._received:
            assert self._received.wait_for(lambda: len(self._spans) >= count, SECONDS_MAX), self._spans
            return self._spans


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.server.services.add(named["service.name"])
            self.server.add([span for scope in resource.scope_spans for span in scope.spans])
        assert self.server.is_open.wait(SECONDS_MAX)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(SECONDS_MAX)


class PartitionProducer:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[Any] = []

    async def send(self, topic: str, partition: int, batch: Any) -> None:
        assert topic == topics.predictions("m")
        self.written += batch

    async def send_dead_letters(self, letters: Any) -> None:
        assert not letters


class CaughtUpFollower:
    """Has applied every change of models."""

    async def catch_up(self, model: str) -> None:
        assert model == "m"


def scored(*headers: codec.Headers, endpoint: str = "", cloud_events: bool = False) -> list[Any]:
    """Score a request with each of these headers; return the headers of the predictions."""
    producer: Any = PartitionProducer()
    follower: Any = CaughtUpFollower()
    agent = ScoringAgent(
        fakes.pipeline(),
        follower,
        producer,
        record_bytes_max=1000,
        cloud_events=cloud_events,
        tracing=Tracing(endpoint, "scoring"),
    )
    requests: list[Any] = [
        types.SimpleNamespace(
            topic="requests",
            partition=3,
            offset=offset,
            timestamp=0,
            key=b"k",
            value=b'{"id": "r%d", "at": "2013-07-01T16:05:00Z", "x": 1.0, "who": "abc"}' % offset,
            headers=request_headers,
        )
        for offset, request_headers in enumerate(headers)
    ]
    asyncio.run(agent.write_predictions(Slice("requests", 3, requests, caught_up=True)))
    return [headers for _, _, headers in producer.written]


def test_a_prediction_has_the_trace_headers_of_its_request_and_of_no_other():
    """Without an endpoint they are copied unchanged, sampled or not; other headers are not copied."""
    state = ("tracestate", b"a=1")
    sent = scored([("x", b"1"), ("traceparent", UNSAMPLED), state], [], [("traceparent", SAMPLED)])
    assert sent == [[("traceparent", UNSAMPLED), state], [], [("traceparent", SAMPLED)]]


def test_trace_headers_are_added_to_those_of_cloud_events():
    """A traced prediction has both, an untraced one only those of CloudEvents."""
    traced, plain = scored([("traceparent", SAMPLED)], [], cloud_events=True)
    assert dict(traced) == dict(plain) | {"ce_id": b"3-0", "traceparent": SAMPLED}
    assert dict(plain)["ce_id"] == b"3-1"


@pytest.mark.parametrize(
    "value", [b"", b"00", SAMPLED.upper(), SAMPLED.replace(TRACE.encode(), b"0" * 32), SAMPLED + b"-x"]
)
def test_an_invalid_traceparent_is_not_copied(value: bytes):
    """The specification requires it: a new trace is better than a broken one."""
    assert codec.trace_headers([("traceparent", value), ("tracestate", b"a=1")]) == []


def test_a_sampled_request_has_a_span_with_its_stages(collector: Collector):
    """Its parent is the span of the request; the prediction names it as parent."""
    sampled, unsampled, untraced = scored(
        [("traceparent", SAMPLED)], [("traceparent", UNSAMPLED)], [], endpoint=collector.url
    )
    spans = {span.name: span for span in collector.wait_for(5)}
    assert spans.keys() == {"score", "decode", "features", "predict", "write"}
    assert collector.services == {"driftline-scoring"}
    whole = spans.pop("score")
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (TRACE, PARENT)
    assert dict(sampled)["traceparent"] == f"00-{TRACE}-{whole.span_id.hex()}-01".encode()
    assert dict(unsampled)["traceparent"] == UNSAMPLED
    assert untraced == []
    for span in spans.values():
        assert (span.trace_id, span.parent_span_id) == (whole.trace_id, whole.span_id)
        assert whole.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= whole.end_time_unix_nano
    began = sorted(spans, key=lambda name: spans[name].start_time_unix_nano)
    assert began == ["decode", "features", "predict", "write"]
    assert {each.key: each.value.int_value for each in whole.attributes}["messaging.kafka.partition"] == 3


def test_a_collector_that_does_not_respond_delays_no_prediction(collector: Collector):
    """The predictions are written while the request to the collector is still open."""
    collector.is_open.clear()
    try:
        assert scored([("traceparent", SAMPLED)], endpoint=collector.url)
        collector.wait_for(5)
        assert scored([("traceparent", SAMPLED)], endpoint=collector.url)
    finally:
        collector.is_open.set()


def test_a_collector_that_cannot_be_reached_fails_no_prediction():
    """Spans are sent in the background and dropped if no collector accepts them."""
    assert scored([("traceparent", SAMPLED)], endpoint="http://127.0.0.1:9")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch):
    """The error says what to install; without an endpoint they are not required."""
    exporter = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, exporter, None)
    Tracing("", "scoring")
    with pytest.raises(TracingError, match=r"driftline\[tracing\]"):
        Tracing("http://127.0.0.1:4318", "scoring")


def test_stages_are_collected_within_the_block_only_and_apart_for_concurrent_slices():

    async def one(name: str) -> list[str]:
        with tracing.collected_stages() as stages, tracing.stage(name):
            await asyncio.sleep(0)
        return [each.name for each in stages]

    async def both() -> list[list[str]]:
        with tracing.stage("not collected"):
            return list(await asyncio.gather(one("a"), one("b")))

    assert asyncio.run(both()) == [["a"], ["b"]]
