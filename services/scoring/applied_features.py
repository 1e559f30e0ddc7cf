"""The Feast repository that was applied last: scoring takes what it changes, or says why it cannot."""

import asyncio

import structlog

from services.feature_store import plan_watch
from services.feature_store.plan import FeaturePlan, PlanError, ServicePlan
from services.feature_store.plan_watch import PlanWatch
from services.runtime.settings import Settings

_log = structlog.get_logger()


class AppliedFeatures:
    """Follows the applications of the repository since the start."""

    def __init__(self, settings: Settings) -> None:
        """Take the repository as it is now."""
        self.fault: str | None = None
        """Why the one that was applied last cannot be used."""
        self._settings = settings
        self._watch = PlanWatch(settings)
        self._plan: FeaturePlan | None = None
        """The plan of the last one; None while it is that of the start."""

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
        """Return whether a feature service is still defined as it is served."""
        try:
            return self._plan is None or self._plan.service(service.name) == service
        except PlanError:
            return False
