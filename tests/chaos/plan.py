"""The plan of disturbances of one run: what happens to whom, and at which event time. It only decides."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Literal

Kind = Literal["kill", "freeze", "garbage", "edit"]

DELAY_SECONDS_MAX = 1.5
"""Maximum wall time from the moment at which the event time of an act is reached to the act."""
TRAINING_DELAY_SECONDS_MAX = 6.0
"""The same for acts during a training, in which event time is stopped."""
ACT_SECONDS = (1.0, 6.0)
"""How long a freeze or an edit lasts."""
IN_TRAINING = ("retraining", "mlflow")
"""They have work only during a training, so one kill of each is planned for the first one."""


@dataclasses.dataclass(frozen=True)
class Span:
    """Event times of a run, in ms: the first and the last act, and the first training."""

    start_ms: int
    training_ms: int
    end_ms: int


@dataclasses.dataclass(frozen=True)
class Act:
    """One disturbance. It begins ``delay_seconds`` after the run has reached ``at_ms``."""

    at_ms: int
    delay_seconds: float
    kind: Kind
    target: str
    """A process or server to kill or freeze, a topic that gets garbage, or the kind of an edit."""
    seconds: float
    """Length of a freeze or an edit."""
    choice: int
    """Seed of what is left to choose: order and partitions of the garbage, or the model that is edited."""


def plan(seed: int, targets: Mapping[Kind, Sequence[str]], span: Span, extra: int) -> list[Act]:
    """Return the acts in the order of their time: each kind for each of its targets, and some more.

    Args:
        seed: The same seed, targets and span give the same plan.
        targets: By kind, without repeats.
        span: When the acts may be.
        extra: Number of further kills and freezes.
    """
    chance = random.Random(seed)
    required: list[tuple[Kind, str]] = [(kind, name) for kind, names in targets.items() for name in names]
    disruptions = [each for each in required if each[0] in ("kill", "freeze")]
    acts = [_act(chance, kind, name, span, in_training=_in_training(kind, name)) for kind, name in required]
    further = chance.choices(disruptions, k=extra) if disruptions else []
    acts += [_act(chance, kind, name, span, in_training=False) for kind, name in further]
    return sorted(acts, key=lambda act: (act.at_ms, act.delay_seconds))


def _in_training(kind: Kind, name: str) -> bool:
    return kind == "kill" and name in IN_TRAINING


def _act(chance: random.Random, kind: Kind, name: str, span: Span, *, in_training: bool) -> Act:
    return Act(
        at_ms=span.training_ms if in_training else chance.randint(span.start_ms, span.end_ms),
        delay_seconds=chance.uniform(0, TRAINING_DELAY_SECONDS_MAX if in_training else DELAY_SECONDS_MAX),
        kind=kind,
        target=name,
        seconds=chance.uniform(*ACT_SECONDS),
        choice=chance.getrandbits(32),
    )
