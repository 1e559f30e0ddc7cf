"""Features come from the request and from the store; what is missing is declared."""

import asyncio
import dataclasses

import numpy as np
import pytest

from services.runtime.declaration import DeclarationError
from tests.unit.scoring.fakes import Store, event, pipeline, request_features, sample


def read(events):
    times_ms = np.zeros(len(events), np.int64)
    return asyncio.run(request_features().read(events, times_ms))


def test_columns_are_in_the_order_of_the_model_s_features():
    subject = pipeline()
    rows = read([event(subject, 0, x=1.5), event(subject, 1, x=-2.0, who="a")])
    assert list(rows.columns) == request_features().names == ["x", "who", "f"]
    assert rows.columns["x"].tolist() == [1.5, -2.0]
    assert rows.columns["who"].tolist() == ["abc", "a"]
    assert rows.columns["f"].tolist() == [3.0, 1.0]
    assert rows.missing == {}


def test_missing_features_are_marked_and_counted():
    def counted():
        return sample("driftline_features_missing_total", model="m", feature="f")

    subject, before = pipeline(), counted()
    rows = read([event(subject, 0), event(subject, 1, who=None)])
    assert {name: rows.missing[name].tolist() for name in rows.missing} == {
        "who": [False, True],
        "f": [False, True],
    }
    assert counted() == before + 1


def test_requests_that_are_older_than_the_features_are_counted():
    class Old(Store):
        async def read(self, entity_columns, event_times_ms, events):
            served = await super().read(entity_columns, event_times_ms, events)
            return dataclasses.replace(served, beyond_retention=2)

    def counted():
        return sample("driftline_features_beyond_retention_total", model="m") or 0

    before = counted()
    events = [event(pipeline(), number) for number in range(3)]
    asyncio.run(request_features(Old()).read(events, np.zeros(3, np.int64)))
    assert counted() == before + 2


def test_a_policy_for_an_unknown_feature_is_rejected():
    missing = {"service": "s", "from_request": ["x", "who"], "missing": {"reject": ["y"]}}
    with pytest.raises(DeclarationError, match="names y; the features are x, who, f"):
        request_features(features=missing)


@pytest.mark.parametrize("declared", ["int", "int?"])
def test_whole_number_beyond_float64_stays_exact(declared):
    """Its neighbours are whole numbers, too; smaller ones are floats, as every other number."""
    schema = {"id": "string", "at": "timestamp", "x": "float", "who": "string?", "order": declared}
    request = {"topic": "requests", "id": "id", "event_time": "at", "schema": schema}
    features = {"service": "s", "from_request": ["x", "order", "who"]}
    subject = pipeline(request=request, features=features)

    def columns(*orders):
        raw = {"id": "r", "at": "2013-07-01T16:05:00Z", "x": 1.5, "who": "a"}
        events = [subject.decoder.convert(raw | {"order": order}) for order in orders]
        return asyncio.run(subject.features.read(events, np.zeros(len(events), np.int64)))

    assert columns(3, 4).columns["order"].dtype == np.float64
    found = columns(2**53 + 1, 4)
    assert list(found.columns) == ["x", "order", "who", "f"]
    assert found.columns["order"].tolist() == [2**53 + 1, 4]
    assert found.columns["x"].tolist() == [1.5, 1.5]
    if declared == "int?":
        found = columns(2**53 + 1, None)
        assert found.columns["order"].tolist() == [2**53 + 1, None]
        assert found.missing["order"].tolist() == [False, True]
