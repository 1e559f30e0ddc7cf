import math

import msgspec

from services.dashboard import drift_windows
from streams.records import (
    FeatureDrift,
)
from tests.unit.dashboard.reports import report


def test_lists_follow_the_features_and_end_with_the_last_one_seen() -> None:
    window = drift_windows.drift_window(report(3, ("wind", "temp")), ("temp", "wind", "rain"))
    assert (window.psi, window.threshold, window.drifted) == ([0.3, 0.3], [0.25, 0.25], [0, 1])
    assert window.evidence == [3.0, 3.0]
    assert (window.log_loss, window.shadow_log_loss) == (0.5, {"frozen": 0.52})


def test_numbers_that_are_none_become_null() -> None:
    bad = FeatureDrift(
        feature="x",
        psi=math.nan,
        statistic=math.inf,
        p_value=0.0,
        threshold=0.25,
        drifted=False,
        missing_share=0.5,
    )
    made = msgspec.structs.replace(report(2, log_loss=math.nan), features=[bad])
    window = drift_windows.drift_window(made, ("x",))
    assert (window.psi, window.statistic, window.evidence, window.log_loss) == ([None], [None], [300.0], None)
    assert b"NaN" not in msgspec.json.encode(window)


def test_a_feature_that_is_not_compared_has_no_effect() -> None:
    shown = report(1, ("a", "b"))
    lacking = msgspec.structs.replace(shown.features[0], psi=0.0, compared=False)
    made = msgspec.structs.replace(shown, features=[lacking, shown.features[1]])
    assert drift_windows.drift_window(made, ("a", "b")).psi == [None, 0.1]


def test_a_report_without_values_has_no_reference_values() -> None:
    assert drift_windows.reference_values(report(1), ("temp",)) is None
