"""The report of a window as a snapshot of Evidently 0.7, for ``Snapshot.load(path)``. Pure.

The values are those of Driftline: PSI over the reference's frozen bins. Evidently shows them, compares
snapshots and stores them in its workspace; it does not compute them again. A metric has the id that Evidently
itself gives to it, so snapshots of many windows form one series.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.monitoring.reports import svg_charts
from services.monitoring.reports.history import WindowReport
from streams import codec
from streams.records import Bins, DriftReport, FeatureDrift

Json = dict[str, Any]

METHOD = "psi"
_COLUMNS, _DATA_SET = "evidently.metrics.column_statistics", "evidently.metrics.dataset_statistics"


def as_snapshot(window: WindowReport) -> bytes:
    """Return the file: the row count, the share of drifted columns, and PSI and missing values by column."""
    report = window.report
    results = [_rows(report), _drifted_columns(report)]
    for feature in report.features:
        results += [_value_drift(feature), _missing(feature, report.predictions)]
    by_id = {_id_of(result): result for result in results}
    document = {
        "report": {"items": []},
        "name": f"{report.model} {report.report_id}",
        "timestamp": (codec.EPOCH + report.window_end_ms * codec.MILLISECOND).isoformat(),
        "metadata": {"model": report.model, "version": str(report.version), "report_id": report.report_id},
        "tags": ["driftline"],
        "metric_results": by_id,
        "top_level_metrics": list(by_id),
        "widgets": [widget for result in results for widget in result["widget"]],
        "tests_widgets": [],
    }
    return msgspec.json.encode(document)


def _rows(report: DriftReport) -> Json:
    metric = _metric("RowCount", _DATA_SET)
    name = "Row count in dataset"
    shown = [_counter(metric, name, [(f"{report.predictions:,}", "current")])]
    return _single(metric, name, report.predictions) | {"widget": shown}


def _drifted_columns(report: DriftReport) -> Json:
    metric = _metric("DriftedColumnsCount", _COLUMNS, params={"drift_share": 0.5}, defaults=["drift_share"])
    drifted = sum(feature.drifted for feature in report.features)
    share = drifted / max(len(report.features), 1)
    return _count(metric, "Count of Drifted Columns", drifted, share)


def _value_drift(feature: FeatureDrift) -> Json:
    metric = _metric("ValueDrift", _COLUMNS, params={"column": feature.feature, "method": METHOD})
    verdict = f"detected ({', '.join(feature.drifted_in)})" if feature.drifted else "not detected"
    label = (
        f"Data drift {verdict}. Drift detection method: PSI. Drift score: {feature.psi:.3f}, "
        f"threshold {feature.threshold:.3f}"
    )
    shown = [_counter(metric, "", [(f"Drift in column '{feature.feature}'", label)])]
    if feature.bins is not None:
        shown.append(_distribution(metric, feature.feature, feature.bins))
    return _single(metric, f"Value drift for {feature.feature}", feature.psi) | {"widget": shown}


def _missing(feature: FeatureDrift, rows: int) -> Json:
    metric = _metric("MissingValueCount", _COLUMNS, params={"column": feature.feature})
    name = f"Column '{feature.feature}' missing values"
    return _count(metric, name, round(feature.missing_share * rows), feature.missing_share)


def _metric(
    kind: str, module: str, params: Mapping[str, Any] | None = None, defaults: Sequence[str] = ()
) -> Json:
    """Return the metric with Evidently's id: a hash of its class and of its parameters without defaults."""
    given = dict(params or {})
    parts = tuple((name, given[name]) for name in sorted(given) if name not in defaults)
    digest = hashlib.md5(f"{module}.{kind}{parts}".encode(), usedforsecurity=False).hexdigest()
    return {"metric_id": digest, "params": {"type": f"evidently:metric_v2:{kind}", **given}}


def _id_of(result: Json) -> str:
    return str(result["metric_value_location"]["metric"]["metric_id"])


def _single(metric: Json, name: str, value: float, param: Mapping[str, str] | None = None) -> Json:
    return {
        "type": "evidently:metric_result_v2:SingleValue",
        "display_name": name,
        "metric_value_location": {"metric": metric, "param": dict(param or {})},
        "widget": None,
        "tests": [],
        "value": float(value),
    }


def _count(metric: Json, name: str, count: int, share: float) -> Json:
    return {
        "type": "evidently:metric_result_v2:CountValue",
        "display_name": name,
        "metric_value_location": {"metric": metric, "param": {}},
        "widget": [_counter(metric, name, [(f"{count:,}", "count"), (f"{share:.1%}", "share")])],
        "tests": [],
        "count": _single(metric, name, count, {"value_type": "count"}),
        "share": _single(metric, name, share, {"value_type": "share"}),
    }


def _counter(metric: Json, title: str, values: Sequence[tuple[str, str]]) -> Json:
    counters = [{"value": value, "label": label} for value, label in values]
    return _widget(metric, "counter", title, {"counters": counters})


def _distribution(metric: Json, feature: str, bins: Bins) -> Json:
    """Return the expected and the current shares as a Plotly bar chart."""
    shown = svg_charts.bars(bins)
    names = [bar.name for bar in shown]
    traces = [
        {"type": "bar", "name": "reference", "x": names, "y": [bar.expected for bar in shown]},
        {"type": "bar", "name": "current", "x": names, "y": [bar.current for bar in shown]},
    ]
    layout = {"barmode": "group", "xaxis": {"title": {"text": feature}}, "yaxis": {"tickformat": ".0%"}}
    return _widget(metric, "big_graph", "", {"data": traces, "layout": layout})


def _widget(metric: Json, kind: str, title: str, params: Json) -> Json:
    identity = f"{metric['metric_id']}-{kind}"
    return {
        "type": kind,
        "title": title,
        "size": 2,
        "id": identity,
        "details": "",
        "params": params,
        "insights": [],
        "additionalGraphs": [],
        "alerts": [],
        "tabs": [],
        "widgets": [],
        "pageSize": 5,
        "linked_metrics": [metric["metric_id"]],
    }
