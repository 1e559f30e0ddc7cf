"""Where the dashboard reads the metrics of scoring."""

from typing import Any

import pytest

from services.dashboard.scoring_poller import metrics_url
from services.runtime.settings import Settings


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "http://127.0.0.1:8001/metrics"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8001/metrics"),
        ({"host": "::1"}, "http://[::1]:8001/metrics"),
        ({"scoring_url": "http://scoring:9000/"}, "http://scoring:9000/metrics"),
    ],
)
def test_metrics_url_is_where_scoring_listens(values: dict[str, Any], expected: str):
    assert metrics_url(Settings(_env_file=None, **values)) == expected
