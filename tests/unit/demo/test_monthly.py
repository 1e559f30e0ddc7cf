"""Which rows a monthly model is trained on, and how it is compared with the loop."""

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from services.demo import monthly, months
from services.demo.monthly import MonthlyModel
from services.demo.summary import MonthLine
from services.model_registry import model_inputs, models_topic
from services.retraining import archive_progress, extraction
from services.retraining.training_set import DataVersion, TrainingSet
from services.runtime import thread_count
from services.runtime.declaration import DAY_MS, HOUR_MS
from services.runtime.settings import Settings
from streams.feature_sets import FeatureSets
from streams.records import RetrainingFinished
from tests.unit.demo import summaries
from tests.unit.retraining import training_data

DECLARATION = training_data.DECLARATION
HORIZON_MS = DECLARATION.label.horizon_ms
CODE = """
class MeanOfLabels:
    classes_ = [0, 1]

    def fit(self, features, labels):
        self.rows, self.share = len(labels), labels.mean()
        return self

    def predict_proba(self, features):
        import numpy as np
        return np.tile([1 - self.share, self.share], (len(features), 1))

def estimator(categorical, numeric):
    return MeanOfLabels()
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> TrainingSet:
    """Serve a request each hour from December to March; each third one is positive until March."""
    times_ms = np.arange(months.YEAR_START_MS, months.FLIGHTS.month_end_ms("2013-03"), HOUR_MS)
    late = np.where(times_ms < months.start_ms("2013-03"), np.arange(len(times_ms)) % 3 == 0, 1).astype(float)
    rows = pd.DataFrame({"prediction_id": "", "event_time_ms": times_ms, "label_time_ms": 0, "label": late})
    version = DataVersion({}, "", len(rows), 0, 0)
    data = TrainingSet(rows, pd.DataFrame({"x": late}), [], version)
    monkeypatch.setattr(thread_count, "limit", lambda: None)
    monkeypatch.setattr(archive_progress, "wait_for_archive", lambda *given: None)
    monkeypatch.setattr(model_inputs, "of_model", lambda *given: {})
    monkeypatch.setattr(models_topic, "read_model", lambda *given: (None, FeatureSets()))
    monkeypatch.setattr(extraction, "read", lambda *given: data)
    return data


def found_models(folder: Path, *names: str) -> list[MonthlyModel]:
    code = folder / DECLARATION.name / "training.py"
    code.parent.mkdir()
    code.write_text(CODE)
    return monthly.models(Settings(models=folder), DECLARATION, months.FLIGHTS, names, {})


def test_model_is_trained_on_all_rows_whose_label_was_mature_at_the_beginning_of_its_month(
    served: TrainingSet, tmp_path: Path
) -> None:
    february, march = found_models(tmp_path, "2013-02", "2013-03")
    for each in (february, march):
        known = served.event_times_ms + HORIZON_MS <= months.start_ms(each.month)
        assert each.rows == known.sum()
    assert (february.labels, march.labels) == (28 * 24, 31 * 24 - 1)  # clocks go forward in March
    share = 1 / 3
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert february.log_loss == pytest.approx(entropy, abs=0.01)
    assert march.log_loss == pytest.approx(-np.log(share), abs=0.02), "not trained on March"


def test_month_without_rows_or_without_rows_before_it_has_no_model(
    served: TrainingSet, tmp_path: Path
) -> None:
    assert found_models(tmp_path, "2013-01", "2013-06") == []


def test_summary_gets_the_losses_and_the_numbers_of_trainings() -> None:
    empty = summaries.empty()
    lines = [
        MonthLine(month=name, requests=1, labels=1, log_loss_live=0.4, log_loss_frozen=0.5, auc_live=None)
        for name in ("2013-02", "2013-03")
    ]
    results = [
        RetrainingFinished(
            request_id=str(day),
            model="late",
            trigger="drift",
            requested_at_ms=months.SCORING_START_MS + day * DAY_MS,
            result="promoted" if version else "failed",
            version=version,
        )
        for day, version in ((0, 1), (20, 2), (30, 0), (60, 3))
    ]
    trained = [MonthlyModel("2013-02", 10, 1, 0.3), MonthlyModel("2013-03", 20, 1, 0.5)]
    until_ms = months.FLIGHTS.month_end_ms("2013-03")
    found = monthly.added(msgspec.structs.replace(empty, months=lines), trained, results, until_ms)
    assert [line.log_loss_monthly for line in found.months] == [0.3, 0.5]
    assert found.monthly.mean_log_loss == pytest.approx(0.4)
    assert (found.monthly.retrainings, found.monthly.retrainings_live) == (2, 2)
