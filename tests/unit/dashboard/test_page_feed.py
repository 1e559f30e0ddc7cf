"""Snapshots, deltas and cursors of the page feed."""

import asyncio
import json

import pytest
from sse_starlette import ServerSentEvent

from services.dashboard.page_feed import PageFeed
from tests.unit.dashboard.test_page import play


@pytest.fixture
def feed():
    return PageFeed("broker:9092")


def test_reconnected_page_gets_only_the_changes(feed: PageFeed):
    play(feed, 40)
    cursor = feed.snapshot().cursor
    play(feed, 42)
    feed.closed = True

    async def read() -> list[ServerSentEvent]:
        return [event async for event in feed.events(cursor)]

    events = asyncio.run(read())
    assert [event.event for event in events] == ["delta", "pulse"]
    windows = json.loads(events[0].data or "")["models"]["m"]["windows"]
    assert [window["window_id"] for window in windows] == ["m:40", "m:41"]


def test_records_that_arrive_together_are_one_delta(feed: PageFeed):
    async def watch() -> list[str | None]:
        stream = feed.events()
        names = [(await anext(stream)).event, (await anext(stream)).event]
        play(feed, 50)
        names.append((await anext(stream)).event)
        feed.closed = True
        return [*names, *[event.event async for event in stream]]

    assert asyncio.run(watch()) == ["snapshot", "pulse", "delta"]


def test_cursor_of_this_process_gives_its_revision(feed: PageFeed):
    play(feed, 3)
    snapshot = feed.snapshot()
    assert feed.revision_of(snapshot.cursor) == feed.state.revision > 0
    delta, revision = feed.delta(0)
    assert (delta.models, revision) == (snapshot.models, feed.state.revision)


@pytest.mark.parametrize("cursor", ["other.1", "", "{epoch}", "{epoch}.x", "{epoch}.-1", "{epoch}.999999"])
def test_other_cursor_has_no_revision(feed: PageFeed, cursor: str):
    play(feed, 3)
    assert feed.revision_of(cursor.format(epoch=feed.epoch)) is None


def test_kafka_pulse_changes_only_the_given_fields(feed: PageFeed):
    feed.update_kafka(records_read=3)
    feed.update_kafka(status="lost", error="KafkaTimeoutError")
    pulse = feed.pulse().kafka
    assert (pulse.status, pulse.error) == ("lost", "KafkaTimeoutError")
    assert (pulse.records_read, pulse.broker) == (3, "broker:9092")
