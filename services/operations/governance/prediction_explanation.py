"""Why a model gave one prediction, as a record and as lines. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from services.model_registry import model_card
from services.model_registry.model_card import CardFacts
from services.operations.governance.prediction_search import FoundOutcome, FoundPrediction
from services.runtime import times
from streams.records import FeatureValue, LedgerEntry


class ServedFeature(msgspec.Struct, frozen=True):
    """One value that the version was given."""

    name: str
    value: FeatureValue
    definition: str = ""
    """Digest of its definition; empty for a field of the request, and in older records."""


class PredictionExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """Version, arm, features, data and decisions that led to one prediction."""

    prediction: FoundPrediction
    others: int
    """Number of further predictions for the same id."""
    features: list[ServedFeature]
    outcome: FoundOutcome | None
    version: CardFacts | None
    """What the registry knows of the version; null if it has none of it."""
    decisions: list[LedgerEntry]
    """The entries of the ledger about the version, up to the time of the prediction."""
    later: list[LedgerEntry]
    """Those after it."""


def explained(
    found: Sequence[FoundPrediction],
    outcome: FoundOutcome | None,
    names: Sequence[str] | None,
    definitions: Mapping[str, str],
    facts: CardFacts | None,
    entries: Sequence[LedgerEntry],
) -> PredictionExplanation:
    """Return the explanation of the first of the predictions for one id, which counts.

    Args:
        found: At least one, by event time.
        outcome: Its latest label.
        names: Of its features, in order; None if they are not known.
        definitions: Digests of the features' definitions, by name.
        facts: What the registry knows of its version.
        entries: The ledger.
    """
    first = found[0]
    known = names or [f"feature {number}" for number in range(len(first.features))]
    about = model_card.decisions(entries, first.model, first.version)
    return PredictionExplanation(
        prediction=first,
        others=len(found) - 1,
        features=[
            ServedFeature(name, value, definitions.get(name, ""))
            for name, value in zip(known, first.features, strict=False)
        ],
        outcome=outcome,
        version=facts,
        decisions=[entry for entry in about if entry.at_ms <= first.scored_time_ms],
        later=[entry for entry in about if entry.at_ms > first.scored_time_ms],
    )


def lines(explanation: PredictionExplanation) -> list[str]:
    """Return the explanation in lines."""
    features = [f"  {each.name} = {each.value}{_definition(each)}" for each in explanation.features]
    later = _decisions(explanation.later) if explanation.later else []
    return [
        *_head(explanation.prediction, explanation.others),
        f"features, {_freshness(explanation.prediction.features_lag_ms)}",
        *features,
        "label",
        f"  {_label(explanation.outcome)}",
        "data that the version was trained on",
        *_facts(explanation.version),
        "decisions before the prediction",
        *_decisions(explanation.decisions),
        *(["decisions after the prediction", *later] if later else []),
    ]


def _head(found: FoundPrediction, others: int) -> list[str]:
    asked, answered = times.minute(found.event_time_ms), times.minute(found.scored_time_ms)
    share = f"{found.arm_weight / 100:g}% of the keys"
    repeats = [f"  {others} more predictions have this id; the first one counts"] if others else []
    return [
        f"{found.prediction_id}: {found.prediction} (score {found.score}), from {found.place}",
        f"  model {found.model}, version {found.version}, arm {found.arm} with {share}",
        f"  asked for {asked} (event time), answered at {answered} (wall time)",
        *repeats,
    ]


def _freshness(lag_ms: int | None) -> str:
    if lag_ms is None:
        return "whose freshness is not known"
    return "complete up to the event time" if lag_ms == 0 else f"{lag_ms / 1000:g} s behind the event time"


def _definition(feature: ServedFeature) -> str:
    return f" (definition {feature.definition})" if feature.definition else ""


def _label(outcome: FoundOutcome | None) -> str:
    if outcome is None:
        return "none has been archived"
    corrected = f", corrected {outcome.correction} times" if outcome.correction else ""
    cost = "" if outcome.cost is None else f", cost {outcome.cost:g}"
    name = outcome.class_name or f"{outcome.label:g}"
    loss = "" if outcome.loss is None else f", loss {outcome.loss:.4g}"
    return f"{name} at {times.minute(outcome.label_time_ms)}{loss}{cost}{corrected}"


def _facts(facts: CardFacts | None) -> list[str]:
    if facts is None:
        return ["  the registry has no such version: it learned online, or was deleted"]
    data = [f"  {name}: {value}" for name, value in sorted(facts.data.items())]
    code = [f"  {name}: {value}" for name, value in sorted(facts.code.items())]
    return [*(data or ["  its run does not say"]), f"  run: {facts.run_id or 'none'}", *code]


def _decisions(entries: Sequence[LedgerEntry]) -> list[str]:
    """Return a line per entry."""
    return [
        f"  {times.minute(entry.at_ms)} {entry.kind} by {entry.actor}: "
        f"{entry.evidence.get('reason') or 'see its evidence'} (entry {entry.number})"
        for entry in entries
    ] or ["  none: the ledger is younger, or the version was changed by another program"]
