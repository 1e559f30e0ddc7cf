"""A trace runs from the request through the prediction; spans go to a collector that speaks OTLP/HTTP."""

import asyncio
import sys
import threading
import time
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
from streams.batches import Slice
from tests.unit.scoring import fakes

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01".encode()
UNSAMPLED = f"00-{TRACE}-{PARENT}-00".encode()
SECONDS_MAX = 10


class Collector(ThreadingHTTPServer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.spans: list[Any] = []
        self.services: set[str] = set()

    def wait_for(self, spans: int) -> list[Any]:
        deadline = time.monotonic() + SECONDS_MAX
        while len(self.spans) < spans:
            assert time.monotonic() < deadline, self.spans
            time.sleep(0.02)
        return self.spans


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.server.services.add(named["service.name"])
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
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


class Producer:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[Any] = []

    async def send(self, topic: str, partition: int, batch: Any) -> None:
        assert topic == topics.predictions("m")
        self.written += batch

    async def send_dead_letters(self, letters: Any) -> None:
        assert not letters


class Follower:
    """Has read all changes of models."""

    async def catch_up(self, model: str) -> None:
        assert model == "m"


def scored(*headers: codec.Headers, endpoint: str = "", cloud_events: bool = False) -> list[Any]:
    """Score a request with each of these headers; return the headers of the predictions."""
    producer: Any = Producer()
    follower: Any = Follower()
    agent = ScoringAgent(
        fakes.scorer(),
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
            headers=own,
        )
        for offset, own in enumerate(headers)
    ]
    asyncio.run(agent.write_predictions(Slice("requests", 3, requests, caught_up=True)))
    return [headers for _, _, headers in producer.written]


def test_prediction_carries_on_the_trace_of_its_request_and_of_no_other():
    """Without an endpoint nothing of it is changed, sampled or not; other headers stay behind."""
    state = ("tracestate", b"a=1")
    sent = scored([("x", b"1"), ("traceparent", UNSAMPLED), state], [], [("traceparent", SAMPLED)])
    assert sent == [[("traceparent", UNSAMPLED), state], [], [("traceparent", SAMPLED)]]


def test_trace_stands_beside_the_headers_of_the_event():
    """Each prediction has both, the untraced one only those of CloudEvents."""
    traced, plain = scored([("traceparent", SAMPLED)], [], cloud_events=True)
    assert dict(traced) == dict(plain) | {"ce_id": b"3-0", "traceparent": SAMPLED}
    assert dict(plain)["ce_id"] == b"3-1"


@pytest.mark.parametrize(
    "value", [b"", b"00", SAMPLED.upper(), SAMPLED.replace(TRACE.encode(), b"0" * 32), SAMPLED + b"-x"]
)
def test_traceparent_that_is_not_sound_ends_here(value: bytes):
    """As the specification says: a new trace is better than a broken one."""
    assert codec.trace_headers([("traceparent", value), ("tracestate", b"a=1")]) == []


def test_sampled_request_has_a_span_with_its_stages(collector: Collector):
    """Its parent is the request's; the prediction names it as its own parent."""
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


def test_collector_that_is_away_holds_no_prediction_back():
    """Spans are sent in the background and dropped when nobody takes them."""
    began = time.monotonic()
    assert scored([("traceparent", SAMPLED)], endpoint="http://127.0.0.1:9")
    assert time.monotonic() - began < tracing.EXPORT_SECONDS_MAX


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch):
    """With what to install; without an endpoint they are not asked for."""
    exporter = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, exporter, None)
    Tracing("", "scoring")
    with pytest.raises(TracingError, match=r"driftline\[tracing\]"):
        Tracing("http://127.0.0.1:4318", "scoring")


def test_stages_are_noted_only_within_the_block_that_asks():
    """And those of concurrent slices apart."""

    async def one(name: str) -> list[str]:
        with tracing.noted_stages() as stages, tracing.stage(name):
            await asyncio.sleep(0.001)
        return [each.name for each in stages]

    async def both() -> list[list[str]]:
        with tracing.stage("of nobody"):
            return list(await asyncio.gather(one("a"), one("b")))

    assert asyncio.run(both()) == [["a"], ["b"]]
