"""Whether the scoring process can answer, and what is wrong while it can."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from aiokafka.errors import KafkaError

from streams.batches import BlockedPartition

START_SECONDS_MAX = 30.0
"""Maximum time that a process is not ready because some model is still being started or loaded."""


class ConsumerGroup(Protocol):
    """The part of `streams.groups.Group` that is looked at."""

    @property
    def assigned(self) -> bool:
        """Whether this member has its assignment."""

    def blocked(self) -> Sequence[BlockedPartition]:
        """Return the partitions that make no progress."""


class Deployed(Protocol):
    """The part of `services.scoring.deployments.Deployment` that is looked at."""

    @property
    def group(self) -> ConsumerGroup:
        """The consumer group of the model."""

    @property
    def is_loading(self) -> bool:
        """Whether its first versions are being loaded."""

    @property
    def not_ready(self) -> str | None:
        """Why it can do nothing now."""

    @property
    def waiting(self) -> int:
        """Requests that have waited for their features for more than a second."""


class Models(Protocol):
    """The part of `services.scoring.deployments.Deployments` that is looked at."""

    @property
    def deployed(self) -> Mapping[str, Deployed]:
        """The deployed models, by name."""

    @property
    def starting(self) -> list[str]:
        """The models that are being started, replaced or retired now."""

    @property
    def faults(self) -> dict[str, str]:
        """Why a model is not served as declared, by model."""


class Readiness:
    """The readiness of all models together.

    The process is ready while at least one model can answer. Partitions are not waited for: requests over
    HTTP need none, and a rebalance of one model's group must not take the process out of service. A model
    with a blocked partition (`streams.batches.BlockedPartition`) cannot answer, unless Kafka is the cause.
    """

    def __init__(
        self,
        models: Models,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        following_failure: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the models, and what tells that the process stops or why the models topic is not followed."""
        self._models = models
        self._is_stopping = is_stopping
        self._following_failure = following_failure
        self._clock = clock
        self._start_deadline = clock() + START_SECONDS_MAX
        self._has_started = False

    def not_ready(self) -> str | None:
        """Return why the process cannot answer; None if at least one model can.

        At the start, None once all models that can be served are, or after `START_SECONDS_MAX`.
        """
        if self._is_stopping():
            return "stopping"
        if pending := self._pending_at_start():
            return pending
        reasons = {name: _not_ready(each) for name, each in self._models.deployed.items()}
        if None in reasons.values():
            return None
        listed = "; ".join(
            f"{name}: {reason}" for name, reason in sorted((self._models.faults | reasons).items())
        )
        return f"no model can answer: {listed}" if listed else "no model is deployed"

    def detail(self) -> dict[str, object]:
        """Return what is wrong although the process may be ready: for other models, or for HTTP alone."""
        found: dict[str, object] = {"broken": self._models.faults}
        waiting = sorted(name for name, each in self._models.deployed.items() if not each.group.assigned)
        if waiting:
            found["waiting_for_partitions"] = waiting
        if blocked := [str(one) for each in self._models.deployed.values() for one in each.group.blocked()]:
            found["blocked"] = sorted(blocked)
        if late := {name: each.waiting for name, each in self._models.deployed.items() if each.waiting}:
            found["waiting_for_features"] = late
        if failure := self._following_failure():
            found["models_topic"] = failure
        return found

    def _pending_at_start(self) -> str | None:
        if self._has_started or self._clock() > self._start_deadline:
            return None
        if self._models.starting:
            return f"starting models: {', '.join(self._models.starting)}"
        if loading := sorted(name for name, each in self._models.deployed.items() if each.is_loading):
            return f"loading models: {', '.join(loading)}"
        self._has_started = bool(self._models.deployed)
        return None


def _not_ready(model: Deployed) -> str | None:
    blocked = [str(one) for one in model.group.blocked() if not isinstance(one.error, KafkaError)]
    return model.not_ready or "; ".join(blocked) or None
