"""What must be in the online store, worked out in one batch from the records alone, without Driftline's code.

pandas decides what is late and which events lie in a window, Python's fractions what they amount to, and
Feast's own protobufs and key serialization how that is written.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import mmh3
import numpy as np
import pandas as pd
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # of Feast's needs

from tests.shop import Sent, Shop

MINUTE_MS = 60_000
Rows = dict[bytes, dict[bytes, bytes]]
Aggregate = Callable[[list[float]], Value]


def expected_rows(
    shop: Shop,
    sent: Sequence[Sent],
    *,
    lateness_ms: int = 0,
    windows: Mapping[str, int] | None = None,
    counting: Mapping[str, int] | None = None,
) -> Rows:
    """Return the rows that Feast's readers must see of each entity.

    Args:
        shop: Whose views are worked out.
        sent: All records.
        lateness_ms: Of the orders. Readings have none.
        windows: Minutes of by_shop's windows by feature, where they are not those of the repository.
        counting: Further views by shop that only count amounts: minutes by name; the feature is ``orders``.
    """
    minutes = {"amount_sum": 10, "amount_count": 10, "amount_max": 30, "amount_std": 30, **(windows or {})}
    functions = {"amount_sum": _sum, "amount_count": _count, "amount_max": _max, "amount_std": _std}
    by_shop = {name: (function, minutes[name]) for name, function in functions.items()}
    orders = _on_time(_frame([r for r in sent if r.topic == shop.orders]), lateness_ms)
    readings = _on_time(_frame([r for r in sent if r.topic == shop.readings]), 0)
    rows: Rows = {}
    _add_windows(rows, shop, "by_shop", orders, ["shop"], by_shop)
    by_desk = {"desk_mean": (_mean, 10), "desk_life": (_float32_sum, None)}
    _add_windows(rows, shop, "by_desk", orders, ["desk", "shop"], by_desk)
    for view, window in (counting or {}).items():
        _add_windows(rows, shop, view, orders, ["shop"], {"orders": (_count, window)})
    for name, group in readings.groupby("shop") if len(readings) else ():
        newest = json.loads(group.sort_values(["time_ms", "partition", "offset"]).iloc[-1]["value"])
        values = {
            "heat": _double(newest.get("heat")),
            "state": Value(string_val=newest["state"]) if "state" in newest else Value(),
            "open": Value(bool_val=newest["open"]) if "open" in newest else Value(),
            "people": Value(int64_val=newest["people"]) if "people" in newest else Value(),
        }
        _add(rows, shop, "latest", {"shop": name}, int(group["time_ms"].max()), values)
    return rows


def late(shop: Shop, sent: Sequence[Sent], lateness_ms: int) -> int:
    """Return how many orders are late."""
    orders = _frame([record for record in sent if record.topic == shop.orders])
    return len(orders) - len(_on_time(orders, lateness_ms))


def visible(rows: Rows) -> Rows:
    """Leave out of stored rows what Feast's readers do not see."""
    return {
        key: {field: value for field, value in row.items() if not field.startswith(b"_driftline:")}
        for key, row in rows.items()
    }


def _frame(records: Sequence[Sent]) -> pd.DataFrame:
    columns = ["partition", "offset", "time_ms", "value", "shop", "desk", "amount"]
    events = [json.loads(record.value) for record in records]
    values = [
        (r.partition, r.offset, r.time_ms, r.value, e["shop"], e.get("desk"), e.get("amount"))
        for r, e in zip(records, events, strict=True)
    ]
    return pd.DataFrame(values, columns=columns).astype({"desk": "Int64", "amount": object})


def _on_time(events: pd.DataFrame, lateness_ms: int) -> pd.DataFrame:
    """Keep what is not behind the newest event before it in its partition by the lateness or more."""
    ordered = events.sort_values(["partition", "offset"])
    newest_before = ordered.groupby("partition")["time_ms"].transform(lambda times: times.cummax().shift())
    return ordered[~(ordered["time_ms"] <= newest_before - 1 - lateness_ms)]


def _add_windows(
    rows: Rows,
    shop: Shop,
    view: str,
    events: pd.DataFrame,
    join_keys: list[str],
    features: Mapping[str, tuple[Aggregate, int | None]],
) -> None:
    for entity, group in events.dropna(subset=join_keys).groupby(join_keys):
        newest_ms = int(group["time_ms"].max())
        values = {}
        for name, (aggregate, minutes) in features.items():
            known = group
            if minutes is not None:  # None: the whole life
                tail_ms = (newest_ms - minutes * MINUTE_MS) // MINUTE_MS * MINUTE_MS
                known = group[group["time_ms"] >= tail_ms]
            values[name] = aggregate(known["amount"].dropna().tolist())
        _add(rows, shop, view, dict(zip(join_keys, entity, strict=True)), newest_ms, values)


def _add(
    rows: Rows, shop: Shop, view: str, entity: Mapping[str, Any], time_ms: int, values: Mapping[str, Value]
) -> None:
    name = f"{shop.prefix}_{view}"
    written = [
        Value(string_val=value) if isinstance(value, str) else Value(int64_val=int(value))
        for value in entity.values()
    ]
    key = EntityKey(join_keys=list(entity), entity_values=written)
    row = rows.setdefault(serialize_entity_key(key, 3) + shop.prefix.encode(), {})
    stamp = Timestamp(seconds=time_ms // 1000, nanos=time_ms % 1000 * 1_000_000)
    row[f"_ts:{name}".encode()] = stamp.SerializeToString()
    for feature, value in values.items():
        field = mmh3.hash(f"{name}:{feature}", signed=False).to_bytes(4, "little")
        row[field] = value.SerializeToString()


def _double(value: float | None) -> Value:
    return Value() if value is None else Value(double_val=value)


def _sum(amounts: list[float]) -> Value:
    return _double(math.fsum(amounts) if amounts else None)


def _float32_sum(amounts: list[float]) -> Value:
    return Value(float_val=float(np.float32(math.fsum(amounts)))) if amounts else Value()


def _count(amounts: list[float]) -> Value:
    return Value(int64_val=len(amounts))


def _max(amounts: list[float]) -> Value:
    return _double(float(max(amounts)) if amounts else None)


def _mean(amounts: list[float]) -> Value:
    return _double(float(sum(map(Fraction, amounts)) / len(amounts)) if amounts else None)


def _std(amounts: list[float]) -> Value:
    count = len(amounts)
    if count < 2:
        return Value()
    exact = [Fraction(amount) for amount in amounts]
    mean = sum(exact) / count
    return _double(math.sqrt(float(sum((amount - mean) ** 2 for amount in exact) / (count - 1))))
