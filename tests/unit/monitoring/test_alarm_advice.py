"""Every kind of alert has a headline and advice."""

import typing

import pytest

from services.monitoring import alarm_advice
from streams.records import DriftAlarm

KINDS = [*typing.get_args(typing.get_type_hints(DriftAlarm)["kind"]), "retraining", "rollout"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_headline_and_advice(kind: str) -> None:
    headline, advice = alarm_advice.headline(kind), alarm_advice.advice(kind)
    assert kind not in headline.split("(")[-1] or not headline.endswith(")")
    assert advice.endswith(".")
    assert headline != alarm_advice.headline("unknown kind")
    assert advice != alarm_advice.advice("unknown kind")


def test_an_unknown_kind_is_named() -> None:
    assert "surprise" in alarm_advice.headline("surprise")
