import json
from pathlib import Path

from examples.regression import generator
from examples.regression.generator import ARRIVALS, ORDERS, ORDERS_A_DAY


def test_the_same_seed_gives_the_same_orders() -> None:
    assert generator.events(3, seed=1) == generator.events(3, seed=1)
    assert generator.events(3, seed=1) != generator.events(3, seed=2)


def test_each_order_arrives_after_its_minutes() -> None:
    found = generator.events(3, seed=1)
    assert [event.time for event in found] == sorted(event.time for event in found)
    placed = {json.loads(event.value)["order_id"]: event.time for event in found if event.topic == ORDERS}
    arrived = [(event.time, json.loads(event.value)) for event in found if event.topic == ARRIVALS]
    assert len(placed) == len(arrived) == 3 * ORDERS_A_DAY
    for time, row in arrived:
        assert abs((time - placed[row["order_id"]]).total_seconds() - row["minutes"] * 60) < 0.001


def test_command_writes_a_file_for_each_topic(tmp_path: Path) -> None:
    generator.main(["--days", "2", "--folder", str(tmp_path)])
    assert len((tmp_path / "orders.placed.jsonl").read_bytes().splitlines()) == 2 * ORDERS_A_DAY
    assert len((tmp_path / "orders.delivered.jsonl").read_bytes().splitlines()) == 2 * ORDERS_A_DAY
