"""What gates find: passed, failed or not enough data, with numbers and a sentence. Pure."""

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

Outcome = Literal["passed", "failed", "not_enough_data"]


class GateResult(msgspec.Struct, frozen=True):
    """What one gate found."""

    name: str
    """Of the gate, such as ``champion`` or ``limit auc``."""
    outcome: Outcome
    text: str
    """A sentence for people, with what to do if the data is not enough."""
    numbers: dict[str, float] = {}
    """What it was decided on; all are finite."""


class GateReport(msgspec.Struct, frozen=True):
    """What all gates of a model found for one candidate."""

    results: list[GateResult]
    undecided: Literal["refuse", "accept"] = "refuse"
    """The declared ``gates.undecided``."""

    @property
    def passed(self) -> bool:
        """Whether the candidate may become champion."""
        return not self.refusing

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of the gates."""
        found = {each.outcome for each in self.results}
        return (
            "failed" if "failed" in found else "not_enough_data" if "not_enough_data" in found else "passed"
        )

    @property
    def refusing(self) -> list[GateResult]:
        """The results for which it may not."""
        accepted = {"passed"} if self.undecided == "refuse" else {"passed", "not_enough_data"}
        return [each for each in self.results if each.outcome not in accepted]

    @property
    def reasons(self) -> list[str]:
        """The sentences of those results, each after the name of its gate."""
        return [f"{each.name}: {each.text}" for each in self.refusing]


def result(name: str, outcome: Outcome, text: str, numbers: Mapping[str, float] | None = None) -> GateResult:
    """Return a result with those of the numbers that are finite."""
    finite = {key: float(value) for key, value in (numbers or {}).items() if math.isfinite(value)}
    return GateResult(name, outcome, text, finite)


def bounded(low: float, high: float, maximum: float) -> Outcome:
    """Return whether a value is below a maximum, for the ends of its interval."""
    if high <= maximum:
        return "passed"
    return "failed" if low > maximum else "not_enough_data"
