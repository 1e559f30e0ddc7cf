"""Compares a closed window with its reference and makes its report."""

import dataclasses
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import msgspec
import numpy as np

from services.drift.binning import statistics, value_statistics
from services.drift.detectors import correlation_differences
from services.drift.performance.exact_sums import ExactMean, means_of
from services.drift.performance.loss_baseline import expected_mean
from services.drift.performance.running_differences import RunningDifferences
from services.drift.references import References
from services.drift.windows import contributions
from services.drift.windows.arm_sums import ArmKey, ArmSumsState, compared_with, figures_of, merged
from services.drift.windows.comparison import DriftThresholds, FeatureComparison, compare, compare_confidence
from services.drift.windows.measure_sums import OWN, ComparedSums
from services.drift.windows.window import DriftWindow, SegmentState
from services.model_registry.traffic_split import CHAMPION
from services.monitoring import arm_comparison
from services.monitoring.label_join import JoinTotals
from services.monitoring.model_metrics import Measures
from services.monitoring.rank_correlation import Moments
from services.monitoring.reference import PREDICTION, SCORE
from services.runtime.declaration import ModelDeclaration, Monitoring
from streams import records


@dataclasses.dataclass(frozen=True)
class WindowComparison:
    """The comparison of a window with its reference."""

    features: list[FeatureComparison]
    """Empty without a reference or predictions."""
    outputs: dict[str, FeatureComparison]
    """Comparisons of the scores and of the predicted classes, by name."""
    confidence: records.ConfidenceDrift | None = None
    relations: records.RelationDrift | None = None
    quality: list[records.FeatureQuality] = dataclasses.field(default_factory=list)
    contributions: list[records.Contribution] = dataclasses.field(default_factory=list)


def compare_window(window: DriftWindow, declaration: ModelDeclaration) -> WindowComparison:
    """Compare a window with its reference; without predictions there is nothing to compare."""
    if not window.state.predictions:
        return WindowComparison([], {})
    monitoring = declaration.monitoring
    p_value = monitoring.p_value_threshold / max(len(window.features), 1)
    thresholds = DriftThresholds(monitoring.psi_threshold, p_value, monitoring.new_category_share)
    references = window.seasonal_references()
    features = [compare(*each) for each in zip(window.features, repeat(thresholds), references, strict=False)]
    score = window.outputs.score
    return WindowComparison(
        features,
        {name: compare(each, thresholds) for name, each in window.outputs.counts.items()},
        compare_confidence(score, is_binary=declaration.task == "binary")
        if score and declaration.task != "regression"
        else None,
        _relations(window, monitoring),
        window.row_binner.rules.evaluate(window.faults.tolist()) if window.row_binner else [],
        contributions.ranked([each.drift for each in features], window.segment_features()),
    )


def _relations(window: DriftWindow, monitoring: Monitoring) -> records.RelationDrift | None:
    reference = window.row_binner.reference if window.row_binner else None
    if reference is None or reference.pairs is None or window.pairs is None or not window.pairs.rows:
        return None
    watched = reference.features[: len(reference.pairs.sums)]
    return correlation_differences.compare(
        Moments.of_reference(reference.pairs),
        window.pairs,
        np.array([each.design_effect for each in watched]),
        [each.feature for each in watched],
        monitoring.p_value_threshold,
        reference.pairs.design_effects,
    )


def make_report(
    model: str,
    window: DriftWindow,
    sides: "WindowSides",
    found: WindowComparison,
    totals: JoinTotals,
    references: References,
    measures: Measures,
    *,
    running: RunningDifferences | None = None,
    sample: float = 1.0,
) -> records.DriftReport:
    """Return the report of a window: the first one, or the next revision.

    ``running`` are the differences between the arms up to now, ``sample`` is the share of the predictions
    that were read.
    """
    state, classifies = window.state, measures.task != "regression"
    version, champion, arms = sides.version, sides.champion, sides.arms
    means = _means(champion, measures)
    reference = references.get(version)
    revision, state.reports = state.reports, state.reports + 1
    shadows = _shadow_losses(arms)
    return records.DriftReport(
        report_id=f"{model}-{window.start_ms}-{window.end_ms}",
        model=model,
        version=version,
        window_start_ms=window.start_ms,
        window_end_ms=window.end_ms,
        predictions=state.predictions,
        labels=champion.labels,
        features=_with_values(window, found),
        **_of_outputs(window, found),
        **_of_reference(reference, version, measures),
        confidence=found.confidence,
        relations=found.relations,
        quality=found.quality,
        contributions=found.contributions,
        log_loss=means.get(measures.loss) if classifies else None,
        accuracy=champion.answers_right / champion.answers if classifies and champion.answers else None,
        shadow_log_loss=shadows if classifies else {},
        measures=means,
        shadow_losses=shadows,
        labels_joined_total=totals.joined,
        labels_orphaned_total=totals.orphaned,
        labels_duplicate_total=totals.duplicate + totals.superseded,
        labels_corrected_total=totals.corrected,
        predictions_asked_again_total=totals.asked_again,
        predictions_unlabelled_total=totals.unlabelled,
        alarms_standing=state.alarms_standing,
        revision=revision,
        segments=[
            _segment(name, window, champion) for name in sorted({*state.segments, *champion.segment_labels})
        ],
        arms=[_arm_figures(each, sides, measures, running) for each in arms],
        fallbacks=dict(sorted(state.fallbacks.items())),
        sample=sample,
    )


@dataclasses.dataclass(frozen=True)
class WindowSides:
    """The champion of a window, and what is compared with it."""

    version: int
    """The champion's version; the window is compared with its reference."""
    lineage: int
    """What counts as this champion: 1 for all versions of a model that learns."""
    champion: ArmSumsState
    """The sums of the champion, over all arms that its version has."""
    arms: Sequence[ArmSumsState]
    """All arms of the window, the champion's too."""
    others: Sequence[ArmSumsState]
    """The other arms with a name, and the shadows."""

    @property
    def losses(self) -> ComparedSums | None:
        """The losses of the champion; None without labels."""
        return self.champion.compared.get(OWN)


def sides_of(window: DriftWindow, *, learns: bool) -> WindowSides:
    """Return the champion of a window and the other arms.

    With ``learns``, all versions of the champion's arm count as the champion.
    """
    version = window.state.champion if window.state.version is None else window.state.version
    arms = window.arms.states()
    champions = [each for each in arms if _is_champion(each, version, learns=learns)]
    others = [each for each in arms if each not in champions and each.arm and each.version]
    lineage = min(version, 1) if learns else version
    return WindowSides(version, lineage, merged(champions), arms, others)


def _arm_figures(
    arm: ArmSumsState,
    sides: WindowSides,
    measures: Measures,
    running: RunningDifferences | None,
) -> records.ArmFigures:
    losses, difference = compared_with(arm, sides.lineage), None
    if arm not in sides.others:
        return figures_of(arm, measures, losses, is_champion=not arm.shadow and bool(arm.arm and arm.version))
    champion = None if arm.shadow else sides.losses
    if losses is not None and (arm.shadow or champion):
        window = losses.record(), champion.record() if champion else None
        difference = arm_comparison.difference([window], sides.version)
        key = ArmKey(arm.arm, arm.version, arm.shadow)
        latest = running.figures(key, sides.lineage) if running else None
        difference = latest.of(difference) if difference and latest else difference
    return figures_of(arm, measures, losses, difference)


def _of_reference(reference: records.Reference | None, version: int, measures: Measures) -> dict[str, Any]:
    """Return the fields of a report that are about the reference alone."""
    expected = expected_mean(reference, measures.loss)
    return {
        "has_reference": reference is not None if version else None,
        "reference_log_loss": reference.log_loss if reference else None,
        "reference_loss": expected.value,
        "reference_loss_error": expected.error,
    }


def _of_outputs(window: DriftWindow, found: WindowComparison) -> dict[str, Any]:
    """Return the fields of a report that are about scores and predicted classes."""
    outputs = {name: each.drift for name, each in found.outputs.items()}
    score = _score(window, outputs.get(SCORE))
    return {
        "score": score,
        "score_psi": score.psi if score else None,
        "score_bins": score.bins if score else None,
        "prediction": outputs.get(PREDICTION),
    }


def _with_values(window: DriftWindow, found: WindowComparison) -> list[records.FeatureDrift]:
    """Return the features with the statistics of their numbers."""
    values = value_statistics.of_window(window.features, window.values)
    references = window.row_binner.reference_values if window.row_binner else ()
    return [
        msgspec.structs.replace(each.drift, values=known, reference_values=reference)
        for each, known, reference in zip(found.features, values, references, strict=False)
    ]


def _score(window: DriftWindow, drift: records.FeatureDrift | None) -> records.FeatureDrift | None:
    """Return the drift of the scores with their statistics."""
    if drift is None or window.outputs.score is None or window.row_binner is None:
        return None
    (values,) = value_statistics.of_window([window.outputs.score], window.score_values)
    reference = window.row_binner.reference_score
    return msgspec.structs.replace(drift, values=values, reference_values=reference)


def _is_champion(arm: ArmSumsState, version: int, *, learns: bool) -> bool:
    """Tell whether an arm counts as the champion of a report."""
    if arm.shadow:
        return False
    return arm.version == version if not (learns and version) else arm.arm == CHAMPION


def _means(arm: ArmSumsState, measures: Measures) -> dict[str, float]:
    return means_of({name: each.total for name, each in zip(measures.names, arm.measures, strict=False)})


def _shadow_losses(arms: Sequence[ArmSumsState]) -> dict[str, float]:
    """Return the mean loss by shadow, over all of its versions."""
    names = {each.arm for each in arms if each.shadow}
    found = {name: merged(each for each in arms if each.shadow and each.arm == name) for name in names}
    return means_of({name: each.measures[0].total for name, each in found.items() if each.measures})


def _segment(name: str, window: DriftWindow, champion: ArmSumsState) -> records.SegmentDrift:
    state = window.state.segments.get(name, SegmentState())
    psi = None
    if window.outputs.score is not None and any(state.scores):
        psi = statistics.population_stability_index(window.outputs.score.reference, np.array(state.scores))
    return records.SegmentDrift(
        segment=name,
        predictions=state.predictions,
        labels=champion.segment_labels.get(name, 0),
        score_psi=psi,
        loss=champion.segment_losses.get(name, ExactMean()).value,
    )
