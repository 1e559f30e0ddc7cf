"""Whether a retraining helped: the replaced version scores the new version's requests afterwards.

The archive contains every request's features as served, and the registry every version. This is therefore
not an estimate: both versions score the same requests. Neither was trained on them.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from services.model_registry import loading, model_inputs, models_topic
from services.retraining import archive_progress, candidate, evaluation, extraction
from services.retraining.extraction import Wanted
from services.runtime.declaration import HOUR_MS, ModelDeclaration
from services.runtime.settings import Settings
from streams.records import RetrainingFinished

_ALL_KNOWN_MS = 2**62


@dataclasses.dataclass(frozen=True)
class Service:
    """The period in which one promoted version was the champion, and its loss in that period."""

    version: int
    predecessor: int
    from_ms: int
    to_ms: int
    labels: int
    log_loss: float
    log_loss_of_predecessor: float

    @property
    def gain(self) -> float:
        """How much lower the log loss was than the predecessor's."""
        return self.log_loss_of_predecessor - self.log_loss


def services(
    settings: Settings,
    declaration: ModelDeclaration,
    results: Sequence[RetrainingFinished],
    end_ms: int,
    ends: Mapping[str, Sequence[int]],
) -> list[Service]:
    """Measure each promotion except the first on the requests of its period.

    Args:
        settings: Addresses of archive and registry.
        declaration: The model's declaration.
        results: Retrainings by the event time of their request.
        end_ms: End of the last version's period.
        ends: End offsets of the model's topics. Waits until the archive, which commits within a minute, has
            them.
    """
    archive_progress.wait_for_archive(settings, declaration.name, ends)
    promoted = [result for result in results if result.result == "promoted"]
    given = model_inputs.of_model(settings, declaration)
    _, sets = models_topic.read_model(settings, declaration.name)
    served = extraction.read(settings, Wanted(declaration, given, _ALL_KNOWN_MS, sets))
    columns = candidate.filled(served, declaration)
    models = {each.version: loading.load(settings, declaration, given, each.version) for each in promoted}
    delay_ms = round(declaration.retraining.effective_after_hours * HOUR_MS)
    starts_ms = [result.requested_at_ms + delay_ms for result in promoted[1:]]
    found = []
    for before, result, from_ms, to_ms in zip(
        promoted, promoted[1:], starts_ms, [*starts_ms[1:], end_ms], strict=False
    ):
        rows = (served.event_times_ms >= from_ms) & (served.event_times_ms < to_ms)
        if not rows.any():
            continue
        labels, given_rows = (
            served.labels[rows].astype(np.int8),
            {name: column[rows] for name, column in columns.items()},
        )
        losses = [
            evaluation.evaluate(labels, models[version].predict(given_rows)).log_loss
            for version in (result.version, before.version)
        ]
        found.append(Service(result.version, before.version, from_ms, to_ms, int(rows.sum()), *losses))
    return found
