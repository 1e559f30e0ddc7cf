"""``driftline explain-prediction``."""

from typing import Annotated

import msgspec
from cyclopts import Parameter

from services.model_registry import ledger, model_card_store, models_topic
from services.model_registry.mlflow_client import RegistryError
from services.model_registry.model_card import CardFacts
from services.operations.governance import prediction_explanation, prediction_search
from services.operations.governance.card_command import declared, reachable
from services.operations.governance.prediction_search import FoundPrediction
from services.runtime.command_output import fail, failing_on, say
from services.runtime.declaration import DeclarationError
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams.records import LedgerEntry

COMMAND = "driftline explain-prediction"


def explain(
    prediction_id: str, *, model: str | None = None, json: Annotated[bool, Parameter(negative="")] = False
) -> None:
    """Show what led to a prediction: version, arm, features, label, training data, decisions.

    The prediction is searched in the archive, and in the topic from where the archive ends.

    Args:
        prediction_id: Id of the request.
        model: Model; default: all that are declared.
        json: Print one JSON document.
    """
    settings = Settings()
    with failing_on(COMMAND, DeclarationError, MissingTopicError, RegistryError), reachable(settings):
        names = (
            [declared(settings, model).name] if model else sorted(DeclarationFolder(settings.models).valid)
        )
        found = _found(settings, names, prediction_id)
        first = found[0]
        sets = models_topic.feature_sets(settings, first.model)
        entries = ledger.read(settings)
        explanation = prediction_explanation.explained(
            found,
            prediction_search.outcome(settings, first),
            sets.names(first.feature_set),
            sets.definitions(first.feature_set),
            _facts(settings, first, entries),
            entries,
        )
    if json:
        say(msgspec.json.encode(explanation).decode())
    else:
        say(*prediction_explanation.lines(explanation))


def _found(settings: Settings, names: list[str], prediction_id: str) -> list[FoundPrediction]:
    searched = (prediction_search.predictions(settings, name, prediction_id) for name in names)
    if found := next(filter(None, searched), None):
        return found
    return fail(
        f"{COMMAND}: no prediction of {', '.join(names) or 'any model'} has the id {prediction_id!r}: "
        "look for the id in the request, and see whether the archive was running while Kafka still had the "
        "prediction"
    )


def _facts(settings: Settings, found: FoundPrediction, entries: list[LedgerEntry]) -> CardFacts | None:
    try:
        return model_card_store.facts(settings, found.model, found.version, entries)
    except RegistryError:
        return None
