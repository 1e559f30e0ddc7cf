"""Whether people have approved a version in a rollout; the registry is read only now and then."""

import time

from services.model_registry import approvals, version_digest
from services.model_registry.approvals import Approval
from services.model_registry.ledger import Ledger
from services.runtime.settings import Settings
from streams.outages import is_outage

ASK_SECONDS = 10.0
"""Minimum time between two questions about a version: it may be deleted and registered again."""


class ApprovalLookup:
    """Returns approvals of the versions as the registry has them now."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        """Take the ledger, which its owner keeps up to date."""
        self._settings = settings
        self._ledger = ledger
        self._digests: dict[tuple[str, int], str] = {}
        self._asked_seconds: dict[tuple[str, int], float] = {}

    def of(self, model: str, version: int) -> Approval:
        """Return the approval; while the registry is away, with the digest that is known, or without one."""
        entries, key = self._ledger.entries, (model, version)
        if approvals.is_bound(entries, model, version) and self._is_due(key):
            try:
                self._digests[key] = version_digest.of_version(self._settings, model, version)
            except Exception as error:
                if not is_outage(error):
                    raise
        return approvals.approval_of(entries, model, version, self._digests.get(key, ""))

    def _is_due(self, key: tuple[str, int]) -> bool:
        now_seconds = time.monotonic()
        if now_seconds - self._asked_seconds.get(key, -ASK_SECONDS) < ASK_SECONDS:
            return False
        self._asked_seconds[key] = now_seconds
        return True
