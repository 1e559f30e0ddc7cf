"""Monthly retraining, computed beside the loop: the usual schedule, with which the loop is compared.

For each month a model is trained at its beginning, on all rows before whose label horizon had passed, by the
code that trains the versions (`services.retraining`), and answers all requests of the month at once. The rows
are those of the inference log: features as they were served, which do not depend on the version.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np

from services.demo.months import Calendar
from services.demo.summary import DemoSummary, MonthlySummary
from services.model_registry import model_inputs, models_topic
from services.model_registry.training_code import MakeEstimator, function_of
from services.retraining import archive_progress, candidate, evaluation, extraction
from services.retraining.candidate import Fitting
from services.retraining.extraction import Wanted
from services.runtime import thread_count
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams.records import RetrainingFinished

_ALL_KNOWN_MS = 2**62
_FITS_AT_ONCE = 2
"""One for each core; each has one thread, as in `services.retraining.candidate.fit`."""


@dataclasses.dataclass(frozen=True)
class MonthlyModel:
    """The model of one month, and its loss on the requests of that month that have a label."""

    month: str
    rows: int
    """Rows that it was trained on."""
    labels: int
    log_loss: float


def models(
    settings: Settings,
    declaration: ModelDeclaration,
    calendar: Calendar,
    names: Sequence[str],
    ends: Mapping[str, Sequence[int]],
) -> list[MonthlyModel]:
    """Train and measure a model for each month.

    Args:
        settings: Addresses of archive and registry, and the folder of the models.
        declaration: The model's declaration, without choices of a training (window, search, calibration).
        calendar: The world's.
        names: Months of the calendar; those without rows before them are left out.
        ends: End offsets of the model's topics. Waits until the archive, which commits within a minute, has
            them.
    """
    thread_count.limit()  # before scikit-learn is loaded: the same bits as the versions of the loop
    archive_progress.wait_for_archive(settings, declaration.name, ends)
    given = model_inputs.of_model(settings, declaration)
    _, sets = models_topic.read_model(settings, declaration.name)
    served = extraction.read(settings, Wanted(declaration, given, _ALL_KNOWN_MS, sets))
    make: MakeEstimator = function_of(settings.models, declaration.name, "estimator")
    fitting = candidate.Fitting.of(served, declaration, make)
    with ThreadPoolExecutor(max_workers=_FITS_AT_ONCE) as cores:
        found = cores.map(lambda name: _model(fitting, calendar, name), names)
        return [each for each in found if each is not None]


def added(
    found: DemoSummary, trained: Sequence[MonthlyModel], results: Sequence[RetrainingFinished], until_ms: int
) -> DemoSummary:
    """Return a summary with what `models` has found.

    Args:
        found: The summary.
        trained: The models of the months.
        results: Retrainings of the loop; those that were requested later are not counted.
        until_ms: Event time of the end of the requests.
    """
    losses = {each.month: each.log_loss for each in trained}
    lines = [msgspec.structs.replace(line, log_loss_monthly=losses.get(line.month)) for line in found.months]
    monthly = MonthlySummary(
        mean_log_loss=float(np.mean(list(losses.values()))) if losses else None,
        retrainings=len(trained),
        retrainings_live=sum(bool(each.version) and each.requested_at_ms < until_ms for each in results),
    )
    return msgspec.structs.replace(found, months=lines, monthly=monthly)


def _model(fitting: Fitting, calendar: Calendar, name: str) -> MonthlyModel | None:
    times_ms, declaration = fitting.data.event_times_ms, fitting.declaration
    begin_ms, end_ms = calendar.month_start_ms(name), calendar.month_end_ms(name)
    trained = np.flatnonzero(times_ms + declaration.label.horizon_ms <= begin_ms)
    asked = np.flatnonzero((times_ms >= begin_ms) & (times_ms < end_ms))
    labels = fitting.data.labels
    if not len(asked) or candidate.part_fault(labels[trained], declaration):
        return None
    outputs = fitting.outputs(fitting.fitted(trained), asked)
    loss = evaluation.losses(declaration, outputs, labels[asked])["log_loss"].mean()
    return MonthlyModel(name, len(trained), len(asked), float(loss))
