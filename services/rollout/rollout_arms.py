"""The arms of a rollout's steps, and of its end. Pure.

A challenger arm answers a share of the keys, or a shadow of that name scores all requests. With a share of
all keys the version before stays as the shadow `PREVIOUS`: then both score the same requests.
"""

from collections.abc import Iterable, Sequence

import msgspec

from services.model_registry import traffic_split
from services.model_registry.traffic_split import BUCKETS, CHAMPION
from services.runtime.declaration import DAY_MS
from streams.records import Arm

CHALLENGER = "challenger"
"""The arm of the new version, and the alias of its version in MLflow."""
PREVIOUS = "previous"
"""The shadow of the champion while the new version answers everybody."""
PAST_MS = 7 * DAY_MS
"""Arms that were replaced longer ago, in event time, are left out: no request is so late."""


def described(arms: Iterable[Arm]) -> str:
    """Return the arms that answer, and the shadows of a rollout, in short; other shadows concern nobody.

    >>> described([Arm(name="champion", version=1, weight=10_000), Arm(name="old", version=1, weight=0)])
    'champion 1 10000'
    """
    latest: dict[tuple[str, bool, bytes], Arm] = {}
    for arm in sorted(arms, key=lambda each: each.effective_from_ms):
        latest[arm.name, arm.shadow, msgspec.json.encode(arm.segment, order="deterministic")] = arm
    shown = [
        f"{name} {arm.version} {'shadow' if is_shadow else arm.weight}"
        + ("" if segment == b"{}" else f" {segment.decode()}")
        for (name, is_shadow, segment), arm in latest.items()
        if (is_shadow and name in (CHALLENGER, PREVIOUS)) or arm.weight
    ]
    return "; ".join(sorted(shown))


def of_step(
    arms: Sequence[Arm],
    version: int,
    champion: int,
    share: int,
    *,
    at_ms: int,
    changes_champion: bool = False,
) -> list[Arm]:
    """Return the arms of a step.

    Args:
        arms: Those before.
        version: The new one.
        champion: The version of the champion.
        share: Of the keys that the new version answers, in 1/10,000; 0: it is a shadow.
        at_ms: Event time from which on.
        changes_champion: Whether the new version becomes the champion: the end of a rollout that succeeded.

    Raises:
        ShareError: The champion cannot give so much.
    """
    if changes_champion:
        return traffic_split.with_champion(
            without_shadows(arms, version, champion), version, effective_from_ms=at_ms, now_ms=at_ms
        )
    cleared = without_shadows(traffic_split.without_past(arms, at_ms - PAST_MS), version, champion)
    if not share:
        return [*cleared, _shadow(CHALLENGER, version, at_ms)]
    found = traffic_split.with_share(cleared, CHALLENGER, version, share, effective_from_ms=at_ms)
    traffic_split.check(found)
    return [*found, _shadow(PREVIOUS, champion, at_ms)] if share == BUCKETS else found


def after_end(arms: Sequence[Arm], version: int, champion: int, *, at_ms: int) -> list[Arm]:
    """Return the arms without those of a rollout: the champion gets its keys back."""
    cleared = without_shadows(arms, version, champion)
    if any(arm.version == version and arm.weight for arm in _latest_challengers(cleared)):
        starts_ms = max(at_ms, *(arm.effective_from_ms for arm in _latest_challengers(cleared)))
        return traffic_split.with_share(cleared, CHALLENGER, version, 0, effective_from_ms=starts_ms)
    return cleared


def without_shadows(arms: Iterable[Arm], version: int, champion: int) -> list[Arm]:
    """Return the arms without the shadows of a rollout."""
    ours = {(CHALLENGER, version), (PREVIOUS, champion)}
    return [arm for arm in arms if not (arm.shadow and (arm.name, arm.version) in ours)]


def champion_of(arms: Iterable[Arm]) -> int:
    """Return the version of the latest champion; 0 without one."""
    champions = [arm for arm in arms if traffic_split.is_champion(arm)]
    return max(champions, key=lambda arm: arm.effective_from_ms).version if champions else 0


def weights_of(arms: Iterable[Arm]) -> tuple[int, int]:
    """Return the shares of challenger and champion among all requests, in 1/10,000."""
    found = {CHALLENGER: 0, CHAMPION: 0}
    for arm in sorted(arms, key=lambda each: each.effective_from_ms):
        if arm.name in found and not arm.shadow and not arm.segment:
            found[arm.name] = arm.weight
    return found[CHALLENGER], found[CHAMPION]


def is_taken(arms: Iterable[Arm], version: int) -> bool:
    """Tell whether somebody else uses the names of a rollout's arms for other versions."""
    last: dict[tuple[str, bool], Arm] = {}
    for arm in sorted(arms, key=lambda each: each.effective_from_ms):
        if arm.name in (CHALLENGER, PREVIOUS):
            last[arm.name, arm.shadow] = arm
    return any((arm.shadow or arm.weight) and arm.version != version for arm in last.values())


def _latest_challengers(arms: Iterable[Arm]) -> list[Arm]:
    found = [arm for arm in arms if arm.name == CHALLENGER and not arm.shadow and not arm.segment]
    return sorted(found, key=lambda arm: arm.effective_from_ms)[-1:]


def _shadow(name: str, version: int, at_ms: int) -> Arm:
    return Arm(name=name, version=version, weight=0, effective_from_ms=at_ms, shadow=True)
