"""The snapshot has the form that tests/contract/test_evidently.py checks with an unmodified Evidently."""

import json

from services.monitoring.reports import evidently_snapshot
from tests.unit.monitoring.reports.windows import at

IDS_OF_EVIDENTLY = {
    "RowCount": "00404ffe284d7862baa4095093452630",
    "DriftedColumnsCount": "15e89f895b482f9b84ba7274ed18a106",
    "ValueDrift x": "ff5867f8ca7485c5ae63b9db7b502ae6",
    "MissingValueCount colour": "c7f4b0b665919721c8af8cbb4d062885",
}
"""The ids of Evidently 0.7.23 for the same metrics."""


def test_metrics_have_the_ids_and_the_form_of_evidently():
    window = at(27)
    document = json.loads(evidently_snapshot.as_snapshot(window))
    results = document["metric_results"]
    assert set(IDS_OF_EVIDENTLY.values()) <= results.keys()
    assert document["top_level_metrics"] == list(results)
    drift = results[IDS_OF_EVIDENTLY["ValueDrift x"]]
    assert drift["value"] == window.report.features[0].psi
    assert [widget["type"] for widget in drift["widget"]] == ["counter", "big_graph"]
    reference, current = drift["widget"][1]["params"]["data"]
    assert reference["x"] == current["x"]
    assert abs(sum(current["y"]) - 1) < 1e-9
    assert results[IDS_OF_EVIDENTLY["DriftedColumnsCount"]]["count"]["value"] == 1
