"""Notices that features are defined otherwise than when a model was opened: it must be opened again."""

from collections.abc import Iterable
from typing import Protocol

import structlog

from services.feature_store import declared_features, plan_watch, view_definition
from services.feature_store.plan import FeaturePlan, PlanError
from services.feature_store.plan_watch import PlanWatch
from services.learning.learner import Learner
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings

_log = structlog.get_logger()


class LearnedModelWithFeatures(Protocol):
    """A model with its learner."""

    name: str
    declaration: ModelDeclaration
    learner: Learner


class DefinitionWatch:
    """Follows the applications of the Feast repository since the start of a session.

    Scoring serves features that were applied, and learning reads such predictions afterwards. So a check
    between reading and learning notices the application before the first row that depends on it is learned.
    """

    def __init__(self, settings: Settings) -> None:
        """Begin with the present repository."""
        self._settings = settings
        self._watch = PlanWatch(settings)

    def changed(self, models: Iterable[LearnedModelWithFeatures]) -> list[str]:
        """Return the models whose features were changed by an application since the last call; blocking.

        A repository that cannot be used changes none: the features are served as before.
        """
        if not self._watch.refresh():
            return []
        try:
            plan = plan_watch.load_apart(self._settings)
        except Exception as error:  # noqa: BLE001  # of Feast, too; it is read again when it is applied again
            _log.error("learning.features_not_changed", error=repr(error))  # its owner needs the text
            return []
        return [each.name for each in models if _differs(each, plan)]


def _differs(model: LearnedModelWithFeatures, plan: FeaturePlan) -> bool:
    try:
        service = declared_features.service_of(plan, model.declaration)
    except PlanError as error:
        _log.error("learning.features_not_changed", model=model.name, error=str(error))
        return False
    learner = model.learner
    is_same = learner.definitions == view_definition.of_service(service)
    return not is_same or not set(service.feature_names) <= set(learner.feature_names)
