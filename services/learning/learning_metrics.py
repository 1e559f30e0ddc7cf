"""Metrics of the learning process, derived from the learner's totals; the learner itself has none."""

from services.learning.intervals import LearningOutputs
from services.learning.learner import Learner
from services.runtime import metrics


class LearningObserver:
    """Turns running totals into counters."""

    def __init__(self, learner: Learner) -> None:
        """Count from the current totals: an earlier process has counted those of the checkpoint."""
        self._learner = learner
        self._counted = self._results()

    def observe(self, outputs: LearningOutputs) -> None:
        """Record one step of the learner."""
        model, results = self._learner.model, self._results()
        for result, count in results.items():
            metrics.LEARNING_LABELS.labels(model, result).inc(count - self._counted[result])
        self._counted = results
        metrics.LEARNING_PENDING.labels(model).set(len(self._learner.pending))
        if outputs.loss is not None:
            metrics.LEARNING_LOSS.labels(model).set(outputs.loss)
        for published in outputs.published:
            metrics.LEARNING_VERSION.labels(model).set(published.version)
            metrics.LEARNING_STATE_BYTES.labels(model, "model").set(len(published.estimator))
        for verdict in outputs.verdicts:
            outcome, passed = verdict.report.outcome, str(verdict.report.passed).lower()
            metrics.LEARNING_GATES.labels(model, outcome, passed).inc()
        for letter in outputs.dead_letters:
            metrics.DEAD_LETTERS.labels("learning", letter.topic, letter.kind).inc()

    def _results(self) -> dict[str, int]:
        totals, counts = self._learner.totals, self._learner.counts
        return {
            "learned": counts.learned,
            "relearned": counts.relearned,
            "failed": counts.failed,
            "unfit": counts.unfit,
            "orphaned": totals.orphaned,
            "misdated": totals.misdated,
            "duplicate": totals.duplicate,
            "superseded": totals.superseded,
            "asked_again": totals.asked_again,
        }
