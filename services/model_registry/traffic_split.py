"""Which keys an arm scores. Pure.

A key always belongs to the same one of 10,000 buckets, by a hash of model and key; arms own buckets. A change
of a share moves as few buckets as possible: a raised share takes them from the champion alone and a lowered
share returns them, so that a key never moves between two challengers, nor away and back.
"""

from collections.abc import Iterable, Mapping, Sequence

import mmh3
import msgspec

from streams.records import Arm, FeatureValue

BUCKETS = 10_000
"""Number of buckets; an arm's weight is its number of buckets."""
CHAMPION = "champion"
"""Name of the arm that scores what no other arm scores; also the alias of its version in MLflow."""


class ShareError(ValueError):
    """The arms' shares exceed the whole, or two arms have the same keys."""


def is_champion(arm: Arm) -> bool:
    """Tell whether an arm is a champion of all requests.

    Of those with an ``effective_from_ms`` up to an event time, the one with the latest is in effect; the last
    one listed if there are several.
    """
    return arm.name == CHAMPION and not arm.shadow and not arm.segment


def champion_version(arms: Sequence[Arm], at_ms: int | None = None) -> int | None:
    """Return the version of the champion at an event time, or the last one listed; None without one."""
    champions = [
        arm for arm in arms if is_champion(arm) and (at_ms is None or arm.effective_from_ms <= at_ms)
    ]
    latest = max(reversed(champions), key=lambda arm: arm.effective_from_ms, default=None)
    return None if latest is None else latest.version


class Bucketing:
    """Maps the keys of one model to buckets, independently of other models."""

    def __init__(self, model: str) -> None:
        """Take the model's name."""
        self._seed = mmh3.hash(model, signed=False)

    def bucket_of(self, key: str) -> int:
        """Return the bucket of a key: the same in every process and every version of Driftline."""
        return mmh3.hash(key, self._seed, False) % BUCKETS


def layout(arms: Sequence[Arm]) -> dict[str, list[tuple[int, int]]]:
    """Return the buckets of each arm of one segment, by name.

    Arms that list no buckets get the first free ones, in the order of their names, the champion last. Raises
    `ShareError` if two arms have the same bucket, or all arms together more than `BUCKETS`.
    """
    taken = {arm.name: list(arm.buckets) for arm in arms if arm.buckets}
    _check(taken)
    free = _complement([span for spans in taken.values() for span in spans])
    for arm in sorted(arms, key=lambda arm: (arm.name == CHAMPION, arm.name)):
        if arm.name not in taken:
            taken[arm.name], free = _cut(free, arm.weight)
            if _size(taken[arm.name]) < arm.weight:
                raise ShareError(
                    f"the shares of all arms exceed {BUCKETS}/{BUCKETS}: {arm.name} has a share of "
                    f"{arm.weight}, but only {_size(taken[arm.name])} are free"
                )
    return taken


def with_share(
    arms: Sequence[Arm],
    name: str,
    version: int,
    weight: int,
    *,
    effective_from_ms: int = 0,
    segment: Mapping[str, Sequence[FeatureValue]] | None = None,
) -> list[Arm]:
    """Return the arms with another share for one of them, taken from the champion or returned to it.

    Args:
        arms: All arms of the model; only the latest of each name counts.
        name: The arm that changes, which may be a new one; not the champion.
        version: The version that the arm scores with from then on.
        weight: Its new share, in 1/10,000.
        effective_from_ms: The event time from which on the share is in effect.
        segment: Restricts the share to such requests. Among them, the champion scores the keys that are in no
            other arm's buckets.

    Raises `ShareError` if the champion has too small a share to give.
    """
    chosen = {field: list(values) for field, values in (segment or {}).items()}
    if name == CHAMPION:
        raise ShareError(
            "the champion gets the share that the other arms leave: lower the share of another arm instead"
        )
    latest = {arm.name: arm for arm in _in_segment(arms, chosen)}
    owned = layout(list(latest.values()))
    buckets = owned.pop(name, [])
    pool = owned.pop(CHAMPION, [] if not chosen else _complement(buckets, *owned.values()))
    more = weight - _size(buckets)
    if more > _size(pool):
        raise ShareError(
            f"{name} cannot get a share of {weight}/{BUCKETS}: the champion has only {_size(pool)} left"
        )
    if more >= 0:
        taken, pool = _cut(pool, more)
        buckets = _merge(buckets + taken)
    else:
        buckets, returned = _cut(buckets, weight)
        pool = _merge(pool + returned)
    changed = Arm(
        name=name,
        version=version,
        weight=weight,
        effective_from_ms=effective_from_ms,
        segment=chosen,
        buckets=buckets,
    )
    result = [*arms, changed]
    if CHAMPION in latest:
        since_ms = max(effective_from_ms, latest[CHAMPION].effective_from_ms)
        result.append(
            msgspec.structs.replace(
                latest[CHAMPION], weight=_size(pool), buckets=pool, effective_from_ms=since_ms
            )
        )
    return _without_duplicates(result)


def with_champion(arms: Sequence[Arm], version: int, *, effective_from_ms: int, now_ms: int) -> list[Arm]:
    """Return the arms with another version as the champion, which gets what the challengers leave.

    A challenger that has this version ends, because it has become the champion. Arms that score no request
    from ``now_ms`` on are left out.

    Args:
        arms: All arms of the model.
        version: The new champion's version.
        effective_from_ms: The event time from which on it scores.
        now_ms: Event time.
    """
    scoring = _still_scoring([arm for arm in arms if not arm.shadow], now_ms)
    outgoing = [arm for arm in scoring if arm.name == CHAMPION and arm.effective_from_ms < effective_from_ms]
    challengers = _without_version(
        [arm for arm in scoring if arm.name != CHAMPION], version, effective_from_ms
    )
    later = {arm.effective_from_ms for arm in challengers if not arm.segment}
    starts_ms = [effective_from_ms, *sorted(start for start in later if start > effective_from_ms)]
    champions = [
        Arm(name=CHAMPION, version=version, weight=BUCKETS - weight, effective_from_ms=start_ms)
        for start_ms in starts_ms
        for weight in [sum(arm.weight for arm in _in_effect(challengers, start_ms) if not arm.segment)]
    ]
    return [*outgoing, *champions, *challengers, *(arm for arm in arms if arm.shadow)]


def without_past(arms: Sequence[Arm], now_ms: int) -> list[Arm]:
    """Return the arms without those that score no request from an event time on."""
    return [
        *_still_scoring([arm for arm in arms if not arm.shadow], now_ms),
        *(arm for arm in arms if arm.shadow),
    ]


def check(arms: Sequence[Arm]) -> None:
    """Raise `ShareError` if at some event time the arms in effect have no `layout`."""
    answering = [arm for arm in arms if not arm.shadow]
    for start_ms in sorted({arm.effective_from_ms for arm in answering}):
        segments: dict[bytes, list[Arm]] = {}
        for arm in _in_effect(answering, start_ms):
            segments.setdefault(_arm_key(arm)[1], []).append(arm)
        for segment in segments.values():
            layout(segment)


def _arm_key(arm: Arm) -> tuple[str, bytes]:
    """Return name and segment: a later arm with the same ones replaces the arm."""
    return arm.name, msgspec.json.encode(arm.segment, order="deterministic")


def _in_effect(arms: Iterable[Arm], at_ms: int) -> list[Arm]:
    """Return, for each name and segment, the latest arm that has started by an event time."""
    begun = sorted(
        (arm for arm in arms if arm.effective_from_ms <= at_ms), key=lambda arm: arm.effective_from_ms
    )
    return list({_arm_key(arm): arm for arm in begun}.values())


def _still_scoring(arms: Sequence[Arm], now_ms: int) -> list[Arm]:
    """Return the arms that score some request from an event time on, by their start."""
    started = [arm for arm in _in_effect(arms, now_ms) if arm.weight]
    later = [arm for arm in arms if arm.effective_from_ms > now_ms]
    return sorted([*started, *later], key=lambda arm: arm.effective_from_ms)


def _without_version(arms: Sequence[Arm], version: int, from_ms: int) -> list[Arm]:
    """End the arms whose latest version is this one."""
    last = {_arm_key(arm): arm for arm in arms}
    ending = {key for key, arm in last.items() if arm.version == version}
    kept = [arm for arm in arms if _arm_key(arm) not in ending or arm.effective_from_ms < from_ms]
    ends = [
        msgspec.structs.replace(arm, weight=0, buckets=[], effective_from_ms=from_ms)
        for arm in {_arm_key(arm): arm for arm in kept if _arm_key(arm) in ending}.values()
    ]
    return [*kept, *ends]


def _in_segment(arms: Iterable[Arm], segment: Mapping[str, list[FeatureValue]]) -> list[Arm]:
    answering = [arm for arm in arms if not arm.shadow and arm.segment == segment]
    return sorted(answering, key=lambda arm: arm.effective_from_ms)


def _without_duplicates(arms: Sequence[Arm]) -> list[Arm]:
    """Keep the last of the arms that would start at the same time with the same name and segment."""
    kept = {
        (arm.name, arm.shadow, arm.effective_from_ms, msgspec.json.encode(arm.segment)): arm for arm in arms
    }
    return list(kept.values())


def _check(taken: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    end, owner = 0, ""
    for (start, stop), name in sorted((span, name) for name, spans in taken.items() for span in spans):
        if not 0 <= start < stop <= BUCKETS:
            raise ShareError(f"{name}: {start} to {stop} is not a range of buckets within 0 to {BUCKETS}")
        if start < end:
            raise ShareError(f"{owner} and {name} both have the bucket {start}")
        end, owner = stop, name


def _size(spans: Iterable[tuple[int, int]]) -> int:
    return sum(stop - start for start, stop in spans)


def _cut(spans: Sequence[tuple[int, int]], count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Split the buckets into the first ``count`` and the others."""
    head: list[tuple[int, int]] = []
    tail: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        middle = min(stop, start + count)
        count -= middle - start
        head += [(start, middle)] if start < middle else []
        tail += [(middle, stop)] if middle < stop else []
    return head, tail


def _merge(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged


def _complement(*owned: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    free, end = [], 0
    for start, stop in sorted(span for spans in owned for span in spans):
        if end < start:
            free.append((end, start))
        end = stop
    return [*free, (end, BUCKETS)] if end < BUCKETS else free
