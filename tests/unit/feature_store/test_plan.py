"""What a compiled plan answers."""

import dataclasses

import pytest

from services.feature_store.plan import (
    Column,
    FeaturePlan,
    PlanError,
    ServiceFeature,
    StreamSource,
    ValueType,
    View,
    ViewKind,
)
from streams import codec

SHOP, DESK = Column("shop", ValueType.STRING), Column("desk", ValueType.INT64)
SOURCE = StreamSource("orders", "at", codec.parse_ddl("shop string, at timestamp not null"), ("shop",), 0)
BY_SHOP = View(
    "by_shop", ViewKind.LATEST, (SHOP,), (Column("state", ValueType.STRING),), ttl_ms=0, source=SOURCE
)
BY_DESK = dataclasses.replace(BY_SHOP, name="by_desk", join_keys=(DESK, SHOP))
FACTS = View(
    "facts",
    ViewKind.BATCH,
    (DESK,),
    (Column("width", ValueType.DOUBLE), Column("tags", ValueType.STRING_LIST)),
    ttl_ms=0,
)
STATE, WIDTH, TAGS = (
    ServiceFeature("by_shop", "state"),
    ServiceFeature("facts", "width"),
    ServiceFeature("facts", "tags"),
)
PLAN = FeaturePlan("p", (BY_SHOP, BY_DESK, FACTS), {"all": (WIDTH, STATE), "lists": (TAGS,)})


def test_a_service_has_its_features_in_order_and_only_the_views_that_it_needs() -> None:
    service = PLAN.service("all")
    assert service.feature_names == ("width", "state")
    assert service.views == (FACTS, BY_SHOP)
    assert service.join_keys == ("desk", "shop")
    assert service.stream_views == ("by_shop",)


def test_without_a_name_a_service_is_empty() -> None:
    service = PLAN.service("")
    assert (service.references, service.views, service.join_keys) == ((), (), ())


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        (ServiceFeature("nobody", "x"), "no feature view 'nobody'; the views are by_shop, by_desk, facts"),
        (ServiceFeature("facts", "x"), "'facts' has no feature 'x'; its features are width, tags"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(reference: ServiceFeature, named: str) -> None:
    with pytest.raises(PlanError, match=named):
        PLAN.select("s", (reference,))


def test_an_unknown_service_is_named_with_the_known_ones() -> None:
    with pytest.raises(PlanError, match="no feature service 'other'; the services are all, lists"):
        PLAN.service("other")
    with pytest.raises(PlanError, match="the services are none"):
        FeaturePlan("p", (), {}).service("other")


def test_a_model_takes_numbers_and_strings_only() -> None:
    PLAN.service("all").check_inputs()
    with pytest.raises(PlanError, match="'tags' of view 'facts' is of type string_list"):
        PLAN.service("lists").check_inputs()


def test_views_of_one_topic_are_together_and_batch_views_have_none() -> None:
    assert PLAN.by_topic() == {"orders": (BY_SHOP, BY_DESK)}


def test_events_move_to_the_partition_of_an_entity_that_is_not_the_message_key() -> None:
    assert [view.is_repartitioned for view in PLAN.views] == [False, True, False]
    assert [view.is_stream for view in PLAN.views] == [True, True, False]


@pytest.mark.parametrize("kind", ValueType)
def test_scalars_but_texts_and_bytes_are_numbers(kind: ValueType) -> None:
    is_text = kind in (ValueType.STRING, ValueType.BYTES)
    assert kind.is_number == (not is_text and not kind.endswith("_list"))
