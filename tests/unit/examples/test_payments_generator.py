import json
from pathlib import Path

import numpy as np
import pytest

from examples.payments import generator
from examples.payments.generator import CHARGEBACKS, DAY_MS, HOUR_MS, MINUTE_MS, PAYMENTS, Payments, World

WORLD = World(days=60, change_day=40)


@pytest.fixture(scope="module")
def payments() -> Payments:
    return generator.generate(WORLD)


def days_of(payments: Payments) -> generator.Integers:
    return (payments.event_time_ms - WORLD.start_ms) // DAY_MS


def test_the_same_world_gives_the_same_records(payments: Payments) -> None:
    first, second = generator.events(payments), generator.events(generator.generate(WORLD))
    other = generator.events(generator.generate(World(seed=8, days=60, change_day=40)))
    assert first[PAYMENTS].values == second[PAYMENTS].values
    assert first[CHARGEBACKS].values == second[CHARGEBACKS].values
    assert first[PAYMENTS].values != other[PAYMENTS].values


def test_each_week_has_one_to_three_percent_fraud(payments: Payments) -> None:
    weeks = days_of(payments) // 7
    for week in range(8):
        assert 0.01 <= payments.fraud[weeks == week].mean() <= 0.03


def test_chargebacks_come_after_one_to_twenty_days(payments: Payments) -> None:
    delays = (payments.chargeback_ms - payments.event_time_ms)[payments.fraud]
    assert delays.min() >= DAY_MS
    assert delays.max() < generator.SETTLED_DAYS * DAY_MS
    assert np.quantile(delays, 0.9) > 10 * DAY_MS


def test_the_fraud_changes_on_its_day(payments: Payments) -> None:
    """Before, frauds are small; from the day on, most are larger than the usual payment."""
    usual = np.median(payments.amount[~payments.fraud])
    before, after = (payments.fraud & each for each in (days_of(payments) < 40, days_of(payments) >= 40))
    assert (payments.amount[before] > usual).mean() < 0.02
    assert (payments.amount[after] > usual).mean() > 0.7


def test_a_sale_has_a_hundred_times_the_usual_traffic(payments: Payments) -> None:
    noon_ms = WORLD.start_ms + WORLD.sale_days[0] * DAY_MS + 12 * HOUR_MS
    in_sale = (payments.event_time_ms >= noon_ms) & (payments.event_time_ms < noon_ms + 10 * MINUTE_MS)
    usual = len(payments.user) / WORLD.days / (24 * 6)
    assert 80 * usual < in_sale.sum() < 120 * usual


def test_events_are_in_order_and_each_fraud_has_its_chargeback(payments: Payments) -> None:
    topics = generator.events(payments)
    for each in topics.values():
        assert (np.diff(each.event_time_ms) >= 0).all()
        assert len(each.event_time_ms) == len(each.keys) == len(each.values)
    asked = [json.loads(value) for value in topics[PAYMENTS].values]
    frauds = {row["payment_id"] for row, fraud in zip(asked, payments.fraud, strict=True) if fraud}
    told = [json.loads(value) for value in topics[CHARGEBACKS].values]
    assert {row["payment_id"] for row in told} == frauds
    assert len(told) == len(frauds)
    user_of = {row["payment_id"]: row["user"] for row in asked}
    assert [user_of[row["payment_id"]].encode() for row in told] == topics[CHARGEBACKS].keys


def test_command_writes_a_file_for_each_topic(tmp_path: Path) -> None:
    generator.main(["--days", "3", "--folder", str(tmp_path)])
    lines = (tmp_path / "payments.jsonl").read_bytes().splitlines()
    assert len(lines) == len(generator.generate(World(days=3)).user)
    assert json.loads(lines[0])["event_time"].startswith("2025-01-01T")
    assert (tmp_path / "chargebacks.jsonl").is_file()
