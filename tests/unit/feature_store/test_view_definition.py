"""What changes the meaning of a view's rows changes its digest."""

import dataclasses

import pytest

from services.feature_store import view_definition
from services.feature_store.plan import (
    BatchFile,
    Column,
    ServiceFeature,
    ServicePlan,
    StreamSource,
    ValueType,
    View,
)
from tests.unit.feature_store.test_online_reader import windowed

VIEW = windowed(ttl_ms=5)


@pytest.mark.parametrize("changed", [{"ttl_ms": 9}, {"batch_file": BatchFile("a.parquet", "at")}])
def test_rows_do_not_depend_on_ttl_or_batch_file(changed):
    assert view_definition.digest("p", dataclasses.replace(VIEW, **changed)) == view_definition.digest(
        "p", VIEW
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"hop_ms": 1},
        {"aggregations": VIEW.aggregations[::-1]},
        {"join_keys": (Column("desk", ValueType.STRING),)},
        {"features": VIEW.features[::-1]},
        {"name": "other"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_rows_depend_on_everything_else(changed):
    other = dataclasses.replace(VIEW, **changed)
    assert view_definition.digest("p", other) != view_definition.digest("p", VIEW)
    assert view_definition.short_digest("p", other) != view_definition.short_digest("p", VIEW)


def test_rows_depend_on_the_project():
    assert view_definition.digest("q", VIEW) != view_definition.digest("p", VIEW)


def test_the_short_digest_has_32_bits():
    assert 0 <= view_definition.short_digest("p", VIEW) < 2**32


def definitions(view: View) -> dict[str, str]:
    names = tuple(ServiceFeature(view.name, feature) for feature in view.feature_names)
    return view_definition.of_service(ServicePlan("s", "p", names, (view,)))


FIRST, *OTHERS = VIEW.aggregations
BEFORE = definitions(VIEW)


@pytest.mark.parametrize(
    "changed",
    [{"window_ms": FIRST.window_ms + 1}, {"function": "other"}, {"column": "other"}, {"percentile": 0.5}],
    ids=lambda changed: next(iter(changed)),
)
def test_an_aggregation_defines_its_own_feature_only(changed):
    other = dataclasses.replace(FIRST, **changed)
    found = definitions(dataclasses.replace(VIEW, aggregations=(other, *OTHERS)))
    assert [name for name in BEFORE if found[name] != BEFORE[name]] == [FIRST.feature]


def test_features_that_are_added_removed_or_in_another_order_change_no_definition():
    for features, aggregations in (
        (VIEW.features[1:], VIEW.aggregations[1:]),
        (VIEW.features[::-1], VIEW.aggregations[::-1]),
    ):
        found = definitions(dataclasses.replace(VIEW, features=features, aggregations=aggregations))
        assert found.items() <= BEFORE.items()


def test_lateness_and_ttl_do_not_change_what_a_value_means_but_topic_and_key_do():
    source = StreamSource("orders", "at", (), ("shop",), lateness_ms=1)
    streamed = dataclasses.replace(VIEW, source=source)
    before = definitions(streamed)
    late = dataclasses.replace(streamed, source=dataclasses.replace(source, lateness_ms=77), ttl_ms=9)
    assert definitions(late) == before
    for changed in (
        {"source": dataclasses.replace(source, topic="other")},
        {"source": dataclasses.replace(source, event_time="other")},
        {"join_keys": (Column("desk", ValueType.STRING),)},
        {"hop_ms": VIEW.hop_ms + 1},
    ):
        assert not definitions(dataclasses.replace(streamed, **changed)).items() & before.items()
