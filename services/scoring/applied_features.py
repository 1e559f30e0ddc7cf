"""The Feast repository that was applied last: scoring takes what it changes, or says why it cannot."""

import asyncio
import dataclasses

import structlog

from services.feature_store import plan_watch
from services.feature_store.plan import FeaturePlan, PlanError, ServicePlan
from services.feature_store.plan_watch import PlanWatch
from services.runtime.settings import Settings

_log = structlog.get_logger()


class AppliedFeatures:
    """Follows the applications of the repository since the start."""

    def __init__(self, settings: Settings) -> None:
        """Begin with the present repository."""
        self.fault: str | None = None
        """Why the repository that was applied last cannot be used; None if it can."""
        self._settings = settings
        self._watch = PlanWatch(settings)
        self._plan: FeaturePlan | None = None
        """The plan of the last application; None before the first one since the start."""

    async def refresh(self) -> None:
        """Read the plan of a repository that was applied since the last call; a compilation takes seconds."""
        if not self._watch.refresh():
            return
        try:
            self._plan = await asyncio.to_thread(plan_watch.load_apart, self._settings)
        except Exception as error:  # noqa: BLE001  # of Feast, too; it is read again when it is applied again
            reason = str(error) if isinstance(error, PlanError) else repr(error)
            self.fault = (
                f"the applied Feast repository cannot be used: {reason}; the features are served as before"
            )
            _log.error("scoring.features_not_changed", error=reason)  # its owner needs the text
        else:
            self.fault = None
            _log.info("scoring.features_applied", services=sorted(self._plan.services))

    def defines(self, service: ServicePlan) -> bool:
        """Return whether the applied definition of a feature service is still the served one."""
        try:
            served = dataclasses.replace(service, own_event=None)
            return self._plan is None or self._plan.service(service.name) == served
        except PlanError:
            return False
