"""Fraud as in life: labels that are rare and late, a pattern that changes, and the closed loop."""

import datetime as dt
import statistics
from typing import Any

import pytest

from examples.payments import generator
from services.demo.periods import PERIOD_MS
from tests.flow.demo_process import DemoProcess

WORLD = generator.World()
CHANGE = dt.datetime.fromtimestamp(WORLD.start_ms / 1000, dt.UTC) + dt.timedelta(days=WORLD.change_day)
ENOUGH_LABELS = CHANGE + dt.timedelta(days=generator.SETTLED_DAYS + 3)
"""The labels of three days of the new fraud are known: `retraining.minimum_labels`."""
RECOVERY = dt.timedelta(days=10)
PERIOD = dt.timedelta(milliseconds=PERIOD_MS)


def time_of(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Play the whole world once; return the summary."""
    demo = DemoProcess(tmp_path_factory.mktemp("payments"), "payments", "--max")
    try:
        code = demo.process.wait(timeout=1700)
    finally:
        demo.process.kill()
    assert code == 0, demo.text()
    return demo.result()


def test_the_account_is_exact(found: dict[str, Any]) -> None:
    assert (found["complete"], found["faults"]) == (True, [])
    assert found["requests_sent"] == found["predicted"]
    assert (found["dead_letters"], found["labels_orphaned"]) == (0, 0)
    assert sum(line["requests"] for line in found["periods"]) == found["predicted"]


def test_the_change_is_found_with_a_lower_bound_on_the_harm(found: dict[str, Any]) -> None:
    losses = [line for line in found["alarms"] if line["kind"] == "loss"]
    assert all(time_of(line["time"]) > CHANGE for line in losses), "no false alarm before the change"
    assert "with 95 % confidence" in losses[0]["message"]
    first, second = found["retrainings"][:2]
    assert (first["trigger"], second["trigger"]) == ("bootstrap", "drift")
    assert second["promoted"]
    assert time_of(losses[0]["time"]) <= time_of(second["time"]) <= ENOUGH_LABELS + RECOVERY


def test_average_precision_comes_back_within_ten_days_after_enough_labels(found: dict[str, Any]) -> None:
    before = statistics.mean(
        line["average_precision_live"] for line in found["periods"] if line["before_change"]
    )
    after = [line for line in found["periods"] if not line["before_change"]]
    assert after[0]["average_precision_live"] < before / 2, "the change is one"
    back = [line for line in after if time_of(line["from"]) >= ENOUGH_LABELS + RECOVERY - PERIOD]
    assert back
    assert all(line["average_precision_live"] >= before / 2 for line in back)
    assert all(line["average_precision_frozen"] < before / 2 for line in after), "without retraining it stays"


def test_the_shown_loss_is_within_a_fifth_of_the_true_one_throughout(found: dict[str, Any]) -> None:
    for line in found["periods"]:
        assert line["log_loss_shown"] == pytest.approx(line["log_loss_true"], rel=0.2), line
