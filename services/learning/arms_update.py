"""The arms of a model after each learned version. Pure.

The learning process shares the arms with operators, who add challengers and shadows. So a version is added to
the latest arms, as a promotion is. Each interval is added once, even if a crash repeats it: the change itself
holds the last interval that its arms include (`streams.records.LearnedSpan`). It also holds an operator's
rollback: until the release, no version is added.
"""

from collections.abc import Sequence

import msgspec

from services.model_registry import traffic_split
from services.runtime.declaration import INTERVALS_AHEAD_MAX
from streams.records import Arm, LearnedSpan, ModelChanged, Reference, ReferenceName
from streams.records.model_changes import HELD_MS

KEPT_MAX = 2 * INTERVALS_AHEAD_MAX
"""Maximum versions that are remembered, in case an operator overwrites the arms that include them."""
VERSIONS_BEHIND_MAX = INTERVALS_AHEAD_MAX - 2
"""Maximum age of an arm's version, as a number of later versions. A version is overwritten
`learned_versions.KEYS` versions later; by then the arm must have ended, whatever ``effective_after_hours``
says."""


class Announcement(msgspec.Struct, array_like=True, frozen=True):
    """One learned version."""

    version: int
    interval_end_ms: int
    starts_ms: int
    """The event time from which on it scores."""
    labels: int
    passed: bool = True
    """Whether its gate lets it become the champion."""


def changes(
    model: str,
    first_ms: int,
    learned: Sequence[Announcement],
    latest: ModelChanged | None,
    reference: Reference | ReferenceName | None = None,
) -> list[ModelChanged]:
    """Return the changes, one for each version that passed and that the latest change does not include.

    After an operator's rollback there are none until the release, but challengers and shadows still end in
    time. Then the newest version begins at the release.

    Args:
        model: Its name.
        first_ms: The start of the first interval. If the latest change has another one, numbering has
            restarted and all versions are new.
        learned: Versions, in order.
        latest: The latest change; None if there is none.
        reference: That of the versions from its own on.
    """
    span = None if latest is None else latest.learned
    included_ms = span.until_ms if span is not None and span.from_ms == first_ms else None
    not_before_ms = 0 if span is None else span.not_before_ms
    arms = [] if latest is None else latest.arms
    found = []
    for each in _lacking(learned, included_ms, not_before_ms):
        arms = _arms_after(each, arms, not_before_ms)
        known = reference if reference is not None and reference.version <= each.version else None
        found.append(
            ModelChanged(
                model=model,
                arms=arms,
                changed_at_ms=each.interval_end_ms,
                reason=f"learned from {each.labels} labels",
                learned=LearnedSpan(
                    from_ms=first_ms, until_ms=each.interval_end_ms, not_before_ms=not_before_ms
                ),
                reference=known if isinstance(known, Reference) else None,
                reference_name=known if isinstance(known, ReferenceName) else None,
            )
        )
    if not found and latest is not None and learned:
        found = _ended(learned[-1], latest)
    return found


def _lacking(
    learned: Sequence[Announcement], included_ms: int | None, not_before_ms: int
) -> list[Announcement]:
    """Return the versions to add; of those that would begin before a release, the newest."""
    if not_before_ms >= HELD_MS:
        return []
    lacking = [
        each
        for each in learned
        if each.passed and (included_ms is None or each.interval_end_ms > included_ms)
    ]
    held = [each for each in lacking if each.starts_ms < not_before_ms]
    return held[-1:] + lacking[len(held) :]


def _ended(newest: Announcement, latest: ModelChanged) -> list[ModelChanged]:
    """Return the change that ends the arms whose version will soon be overwritten; none without such arms."""
    arms = _without_old(newest, latest.arms)
    champion = traffic_split.champion_version(latest.arms)
    if arms == latest.arms or champion is None:
        return []
    starts_ms = max(
        [newest.starts_ms, *(arm.effective_from_ms for arm in arms if traffic_split.is_champion(arm))]
    )
    arms = traffic_split.with_champion(
        arms, champion, effective_from_ms=starts_ms, now_ms=newest.interval_end_ms
    )
    reason = f"arms with versions of {VERSIONS_BEHIND_MAX} intervals ago end"
    return [msgspec.structs.replace(latest, arms=arms, reason=reason)]


def _arms_after(new: Announcement, arms: Sequence[Arm], not_before_ms: int) -> list[Arm]:
    """Return the arms with a new champion; those whose version will soon be overwritten end with it."""
    return traffic_split.with_champion(
        _without_old(new, arms),
        new.version,
        effective_from_ms=max(new.starts_ms, not_before_ms),
        now_ms=new.interval_end_ms,
    )


def _without_old(new: Announcement, arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms, of which challengers and shadows end whose version will soon be overwritten."""
    oldest = new.version - VERSIONS_BEHIND_MAX
    kept = [arm for arm in arms if not arm.shadow or arm.version >= oldest]
    ordered = sorted(kept, key=lambda arm: arm.effective_from_ms)
    latest = {(arm.name, msgspec.json.encode(arm.segment)): arm for arm in ordered}
    for arm in latest.values():
        if arm.name != traffic_split.CHAMPION and arm.weight and arm.version < oldest:
            ends_ms = max(arm.effective_from_ms, new.starts_ms)
            kept.append(msgspec.structs.replace(arm, weight=0, buckets=[], effective_from_ms=ends_ms))
    return kept
