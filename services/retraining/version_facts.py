"""What a run folder says of the version that it makes: tags, parameters, and its model card."""

from collections.abc import Sequence
from typing import Any

import msgspec

from services.model_registry import model_card, model_card_store
from services.model_registry.model_card import CardFacts, GateFact, ModelCard
from services.retraining import calibration, ledger_evidence
from services.retraining.evidence import Evaluation
from services.retraining.gates import GateResult
from services.retraining.run_folder import CHOICES, DATA_VERSION, EVALUATION, TRAINING_CODE, RunFolder
from services.retraining.training_choices import TrainingChoices
from services.retraining.training_set import DataDescription


def card(run: RunFolder, estimator: Any, gates: Sequence[GateResult], *, now_ms: int) -> ModelCard:
    """Return the card of a candidate, with the same content as one that is made of its version later.

    It has no number and no signature, and not the decisions that follow.

    Args:
        run: With the results of the step evaluate.
        estimator: The fitted candidate.
        gates: What gates have found.
        now_ms: Wall time.
    """
    data = run.read(DATA_VERSION, DataDescription)
    facts = CardFacts(
        data=model_card_store.data_facts(data_tags(run), ledger_evidence.data_set_of(data)),
        metrics=run.read(EVALUATION, Evaluation).named(),
        parameters=parameters(run, estimator),
        gates=[GateFact(each.name, each.outcome, each.text, dict(each.numbers)) for each in gates],
        code=code_tags(run),
    )
    return model_card.build(run.declaration, facts, (), now_ms=now_ms)


def data_tags(run: RunFolder) -> dict[str, str]:
    """Return the tags of the MLflow run that tell on what the candidate was trained."""
    found = run.read(DATA_VERSION, DataDescription)
    version = found.version
    left_out = ", ".join(f"{reason} {count}" for reason, count in found.left_out_by.items() if count)
    return {
        "driftline.data.tables": " ".join(f"{name}@{number}" for name, number in version.tables.items()),
        "driftline.data.sha256": version.sha256,
        "driftline.data.first_event_ms": str(version.first_event_ms),
        "driftline.data.last_event_ms": str(version.last_event_ms),
        "driftline.data.left_out": left_out or "none",
        "driftline.data.offsets": msgspec.json.encode(run.context.offsets).decode(),
    }


def code_tags(run: RunFolder) -> dict[str, str]:
    """Return the tags of the MLflow run that tell with which code the candidate was trained."""
    code = run.context.code | {"training_sha256": run.digest(TRAINING_CODE) or ""}
    return {f"driftline.code.{name}": value for name, value in code.items()}


def parameters(run: RunFolder, estimator: Any) -> dict[str, str]:
    """Return the parameters of the MLflow run: of the estimator, of the training, and counts of rows."""
    found, retraining = run.read(DATA_VERSION, DataDescription), run.declaration.retraining
    chosen = run.read(CHOICES, TrainingChoices)
    named = {
        **_of_last_step(calibration.uncalibrated(estimator)),
        "holdout_days": retraining.holdout_days,
        "refit": retraining.refit,
        "class_weight": retraining.class_weight,
        **chosen.named(),
        "rows": found.version.rows,
        "rows_trained": chosen.rows,
        "rows_left_out": found.left_out,
        "rows_of_unknown_definition": found.definitions_unknown,
        "rows_immature": found.immature,
        "rows_beyond_caps": found.beyond_caps,
    }
    return {name: str(value) for name, value in named.items()}


def _of_last_step(estimator: Any) -> dict[str, Any]:
    """Return the numbers and texts among the parameters of the last step."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    simple = {
        name: value
        for name, value in last.get_params(deep=False).items()
        if isinstance(value, int | float | str)
    }
    return {"estimator": type(last).__name__, **simple}
