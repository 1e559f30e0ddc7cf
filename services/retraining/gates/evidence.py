"""What gates judge: outputs of candidate and champion on the same held-out rows, call times, card. Pure."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.retraining.evaluation import Numbers


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Rows that neither model was trained on."""

    labels: Numbers
    """(n,), see `streams.records.Label.value`."""
    outputs: Numbers
    """The candidate's, (n,) or (n, n_classes), see `services.model_registry.contract.Model`."""
    event_times_ms: npt.NDArray[np.int64]
    """(n,)"""
    champion: Numbers | None = None
    """The outputs of the version that serves, for the same rows; None: there is none."""
    columns: Mapping[str, npt.NDArray[Any]] = dataclasses.field(default_factory=dict)
    """(n,) by name: the features of ``monitoring.segments`` and ``gates.fairness.groups``."""

    def taken(self, rows: npt.NDArray[Any]) -> "HeldOut":
        """Return some of the rows, given by indices or flags."""
        return HeldOut(
            labels=self.labels[rows],
            outputs=self.outputs[rows],
            event_times_ms=self.event_times_ms[rows],
            champion=None if self.champion is None else self.champion[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
        )


@dataclasses.dataclass(frozen=True)
class CallSample:
    """Measured calls of one model, see `services.retraining.call_sample`."""

    seconds: Numbers
    """(n_calls,) Duration of each call."""
    size_bytes: int


@dataclasses.dataclass(frozen=True)
class Leak:
    """A feature that may hold the label, or what is known only after the event."""

    feature: str
    text: str
    """Why."""
    certainty: float
    """Share of pairs of labels that the feature alone orders rightly, or of rows that show it; 0.5 to 1."""


@dataclasses.dataclass(frozen=True)
class CardState:
    """What a model card lacks."""

    missing: Sequence[str] = ()
    """Sections without text."""
    stale: Sequence[str] = ()
    """Sections that are of another version or training set."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that the gates of one candidate need; what no declared gate needs may be left out."""

    held_out: HeldOut
    leaks: Sequence[Leak] = ()
    calls: CallSample | None = None
    champion_calls: CallSample | None = None
    """On the same rows; None without a champion."""
    card: CardState | None = None
    """None: no card was made."""
