"""The loss of a window beside that of the reference, as the alarm compares them."""

import msgspec
import pytest

from services.monitoring import window_loss
from streams.records import DriftReport

CLASSIFIED = DriftReport(
    report_id="1", model="m", version=1, window_start_ms=0, window_end_ms=1, predictions=9, labels=9,
    log_loss=0.5, reference_log_loss=0.45, reference_loss=0.45, reference_loss_error=0.07,
)  # fmt: skip
REGRESSED = msgspec.structs.replace(
    CLASSIFIED, log_loss=None, reference_log_loss=None, measures={"absolute_error": 11.0},
    reference_loss=10.0, reference_loss_error=0.5,
)  # fmt: skip


@pytest.mark.parametrize(("tolerance", "limit"), [(0.02, 0.52), (0.1, 0.55)])
def test_the_limit_is_at_least_the_sampling_error_of_the_reference(tolerance, limit):
    found = window_loss.compare(CLASSIFIED, tolerance)
    assert found is not None
    assert found.limit == pytest.approx(limit)
    assert (found.measure, found.is_worse) == ("log_loss", False)


def test_the_tolerance_of_a_regression_is_a_share_of_its_reference():
    found = window_loss.compare(REGRESSED, 0.2)
    assert found is not None
    assert (found.measure, found.current, found.baseline, found.limit) == ("absolute_error", 11.0, 10.0, 12.0)


def test_a_window_without_labels_has_the_measure_of_its_reference():
    assert window_loss.measure_of(msgspec.structs.replace(REGRESSED, measures={})) == "absolute_error"
    assert window_loss.measure_of(msgspec.structs.replace(CLASSIFIED, log_loss=None)) == "log_loss"


def test_reports_of_older_versions_have_the_log_loss_alone():
    older = msgspec.structs.replace(CLASSIFIED, reference_loss=None, reference_loss_error=0.0)
    found = window_loss.compare(older, 0.02)
    assert found is not None
    assert found.limit == pytest.approx(0.47)


def test_without_labels_or_reference_nothing_is_compared():
    bare = msgspec.structs.replace(REGRESSED, reference_loss=None)
    assert window_loss.compare(bare, 0.1) is None
    assert window_loss.compare(msgspec.structs.replace(CLASSIFIED, log_loss=None), 0.1) is None
