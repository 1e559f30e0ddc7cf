"""What a process isolates so that everything else continues: records that it rejects, models it sets aside.

A process that keeps snapshots works on its models separately. An error of one of them that is no outage
drops the model's state in memory. The model is restored from its last snapshot and continues reading there:

1. The records in process at the error are the suspects. They are processed again more carefully: rows in
   groups of at most `GROUP_ROWS`, then the suspected rows one by one, until only one record is the suspect.
2. A record that was the only suspect at `streams.defects.ATTEMPTS_MAX` errors is a defect. After that it is
   rejected where it is decoded, so the state is as if the record did not exist.
3. An error without a suspect, and a model that cannot be opened, set the model aside. It is tried again with
   back-off, and when its files change.

All of this is kept in memory. After a restart of the process the same records are found again, unless a
snapshot has passed them.
"""

import collections
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Literal, NamedTuple, ParamSpec, TypeVar

import structlog
from kafka.errors import TopicAuthorizationFailedError

from services.runtime import exposition, metrics
from services.runtime.kafka_outbox import StoppedError
from streams import back_off, defects
from streams.outages import is_outage

GROUP_ROWS = 64
"""Maximum rows that are processed together while one of them is suspected: each alone costs a millisecond."""
FAILURES_MAX = 10
"""Maximum errors without finding a record that is at fault; then the model is set aside."""
CALM_SECONDS = 60.0
"""Time without an error after which a suspicion ends, although the frontier of the error is not reached."""
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 1.0, 300.0
"""Pause before a model that was set aside is tried again; doubled at each error."""

_log = structlog.get_logger()
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


Subject = Literal["model", "table"]
"""What a quarantine keeps apart; a table is set aside as a model is."""


class RecordPlace(NamedTuple):
    """Where a record is."""

    topic: str
    partition: int
    offset: int


Rejected = Mapping[RecordPlace, str]
"""Records that are rejected where they are decoded, with the reasons."""


class Care(NamedTuple):
    """How carefully a suspected model processes its records."""

    rows_max: int = GROUP_ROWS
    """Maximum rows that are processed together."""
    alone: frozenset[RecordPlace] = frozenset()
    """Rows that are processed one by one."""


@dataclasses.dataclass
class _Suspicion:
    """What is known of the errors of one model since it last worked."""

    failures: int = 0
    """Errors since a record was rejected."""
    counts: collections.Counter[RecordPlace] = dataclasses.field(default_factory=collections.Counter)
    """Errors by record that was in process."""
    alone: frozenset[RecordPlace] = frozenset()
    frontier_ms: int | None = None
    """The suspicion ends when the model has worked up to this event time."""
    failed_seconds: float = 0.0


@dataclasses.dataclass
class _SetAside:
    reason: str
    failures: int
    retry_seconds: float
    """Monotonic time."""


class OwnedModels:
    """The models of this worker, where several share them."""

    def __init__(self) -> None:
        """Start as a process that shares none."""
        self._names: list[str] | None = None

    def replace(self, names: Collection[str]) -> None:
        """Take the present ones; the gauges of models that are no longer among them are removed."""
        for name in set(self._names or ()).difference(names):
            exposition.forget_model(name)
        self._names = sorted(names)

    def detail(self) -> Mapping[str, object]:
        """Return them for the readiness of the process."""
        return {} if self._names is None else {"models": self._names}


class Quarantine:
    """The records and models that one process isolates; it lives as long as the process."""

    def __init__(self, service: str, subject: Subject = "model") -> None:
        """Take the name of the process and what it keeps apart, for logs and metrics."""
        self._service = service
        self._subject = subject
        self._gauge = metrics.MODELS_SET_ASIDE if subject == "model" else metrics.TABLES_SET_ASIDE
        self._rejected: dict[str, dict[RecordPlace, str]] = {}
        self._origins: dict[str, set[str]] = {}
        """Where in the code the rejected records of a model failed: the next one there is known at once."""
        self._suspicions: dict[str, _Suspicion] = {}
        self._set_aside: dict[str, _SetAside] = {}
        self._faults: Mapping[str, str] = {}
        self.owned = OwnedModels()

    def rejected(self, model: str) -> Rejected:
        """Return the records of a model that are rejected where they are decoded, with the reasons.

        The mapping is the live one: records that are found later appear in it.
        """
        return self._rejected.setdefault(model, {})

    def care(self, model: str) -> Care | None:
        """Return how carefully a model has to work; None if it is not suspected."""
        suspicion = self._suspicions.get(model)
        return None if suspicion is None else Care(alone=suspicion.alone)

    def failed(
        self,
        model: str,
        error: Exception,
        suspects: Collection[RecordPlace],
        frontier_ms: int | None,
        now_seconds: float,
    ) -> None:
        """Take an error of a model that is no outage: decide what is rejected or set aside.

        Args:
            model: Its state in memory may be damaged by now; the caller drops it.
            error: Raised while the suspects were in process.
            suspects: Without any, no record is at fault.
            frontier_ms: Event time up to which the model worked when it failed; None before its first record.
            now_seconds: Monotonic.
        """
        reason = defects.reason_of(error)
        suspicion = self._suspicions.setdefault(model, _Suspicion())
        suspicion.failures += 1
        suspicion.counts.update(suspects)
        suspicion.frontier_ms, suspicion.failed_seconds = frontier_ms, now_seconds
        _log.warning(
            f"{self._service}.model_failed",
            model=model,
            reason=reason,
            suspects=len(suspects),
            failures=suspicion.failures,
            exc_info=error if suspicion.failures == 1 else None,  # the next ones repeat it
        )
        if len(suspects) == 1:
            self._judge(model, reason, next(iter(suspects)), suspicion)
        elif len(suspects) <= GROUP_ROWS:
            suspicion.alone = frozenset(suspects)
        if suspicion.failures >= (FAILURES_MAX if suspects else defects.ATTEMPTS_MAX):
            self.set_aside(model, reason, now_seconds)

    def set_aside(self, model: str, reason: str, now_seconds: float) -> None:
        """Set a model aside; it is due again after a pause."""
        before = self._set_aside.get(model)
        failures = 1 if before is None else before.failures + 1
        pause_seconds = back_off.pause_seconds(failures, RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        self._set_aside[model] = _SetAside(reason, failures, now_seconds + pause_seconds)
        self._gauge.labels(self._service, model).set(1)
        if before is None or before.reason != reason:
            _log.error(f"{self._service}.{self._subject}_set_aside", **{self._subject: model}, reason=reason)

    def is_set_aside(self, model: str) -> bool:
        """Return whether a model was set aside and has not worked since."""
        return model in self._set_aside

    def is_due(self, model: str, now_seconds: float) -> bool:
        """Return whether a model that is not open may be opened now."""
        found = self._set_aside.get(model)
        return found is None or now_seconds >= found.retry_seconds

    def works(self, model: str, now_seconds: float) -> None:
        """Note that an open model has had no error."""
        suspicion = self._suspicions.get(model)
        if suspicion is None:
            self._restore(model)
        elif now_seconds - suspicion.failed_seconds >= CALM_SECONDS:
            self.passed(model, suspicion.frontier_ms)

    def passed(self, model: str, frontier_ms: int | None) -> None:
        """Note that a snapshot of a model was written, which has worked up to an event time."""
        suspicion = self._suspicions.get(model)
        if suspicion is None or _reached(frontier_ms, suspicion.frontier_ms):
            self._suspicions.pop(model, None)
            self._restore(model)

    def changed(self, model: str) -> None:
        """Forget the errors of a model whose files have changed: it is due at once."""
        self._suspicions.pop(model, None)
        if found := self._set_aside.get(model):
            found.retry_seconds, found.failures = 0.0, 0

    def declare(self, valid: Collection[str], faults: Mapping[str, str], now_seconds: float) -> None:
        """Take which models are declared, and which declarations are invalid; forget all other models.

        An invalid declaration sets its model aside, unless it was valid before. It ends when it is mended.
        """
        for model, fault in self._faults.items():
            found = self._set_aside.get(model)
            if model not in faults and found is not None and found.reason == fault:
                self._restore(model)
        self._faults = dict(faults)
        for model, fault in faults.items():
            if model not in valid and self.is_due(model, now_seconds):
                self.set_aside(model, fault, now_seconds)
        known = {*valid, *faults}
        for model in (self._suspicions.keys() | self._rejected.keys() | self._set_aside.keys()) - known:
            self._suspicions.pop(model, None)
            self._rejected.pop(model, None)
            self._restore(model)

    def open(
        self,
        model: str,
        now_seconds: float,
        work: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result | None:
        """Do the work that opens a model and return its result; None if it fails: the model is set aside.

        Raises outages, and the stop of the process.
        """
        try:
            with defects.panics_as_errors():
                return work(*args, **kwargs)
        except Exception as error:
            if not is_defect(error):
                raise
            self.set_aside(model, _text(error), now_seconds)
            _log.warning(f"{self._service}.model_not_opened", model=model, exc_info=error)
            return None

    def detail(self) -> Mapping[str, object]:
        """Return a worker's models, and what is set aside or invalid with the reasons, for the readiness."""
        aside = {model: each.reason for model, each in sorted(self._set_aside.copy().items())}
        found = {f"{self._subject}s_set_aside": aside, "declarations_invalid": self._faults}
        return {**self.owned.detail(), **{name: reasons for name, reasons in found.items() if reasons}}

    def _judge(self, model: str, reason: str, place: RecordPlace, suspicion: _Suspicion) -> None:
        """Reject the only suspect if it failed often enough, or as another one did before."""
        origins = self._origins.setdefault(model, set())
        if suspicion.counts[place] < defects.ATTEMPTS_MAX and _origin(reason) not in origins:
            return
        origins.add(_origin(reason))
        self._rejected.setdefault(model, {})[place] = reason
        del self._suspicions[model]
        suspicion.failures = 0
        _log.error(f"{self._service}.record_rejected", model=model, reason=reason, **place._asdict())

    def _restore(self, model: str) -> None:
        if self._set_aside.pop(model, None) is not None:
            self._gauge.labels(self._service, model).set(0)
            _log.info(f"{self._service}.{self._subject}_restored", **{self._subject: model})


def is_defect(error: Exception) -> bool:
    """Return whether an error is one of a record or a model: neither an outage nor a stop of the process.

    A topic that this process may not use concerns its models alone.
    """
    if isinstance(error, TopicAuthorizationFailedError):
        return True
    return not is_outage(error) and not isinstance(error, StoppedError)


def _text(error: Exception) -> str:
    """Return the message of one of our errors, which says what to do; of another one also type and place."""
    is_own = type(error).__module__.partition(".")[0] in {"services", "streams"}
    return str(error) if is_own else defects.reason_of(error)


def _reached(frontier_ms: int | None, failed_ms: int | None) -> bool:
    return failed_ms is None or (frontier_ms is not None and frontier_ms >= failed_ms)


def _origin(reason: str) -> str:
    return reason.rpartition(" at ")[2]
