"""Which metrics have series by version."""

from prometheus_client.metrics import MetricWrapperBase

from services.runtime import metrics


def test_only_metrics_by_arm_have_a_version_because_only_their_series_are_removed() -> None:
    declared = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    by_version = [each for each in declared if "version" in each._labelnames]  # no public name
    assert by_version
    assert all("arm" in each._labelnames for each in by_version)
