"""Which keys an arm gets. Pure.

A key belongs for ever to one of 10,000 buckets, by a hash of model and key; arms own buckets. Whoever
changes a share moves as few buckets as can be: a raised share takes them from the champion alone and a
lowered one gives them back, so that a key never moves between two challengers, nor away and back.
"""

from collections.abc import Iterable, Mapping, Sequence

import mmh3
import msgspec

from streams.records import Arm, FeatureValue

BUCKETS = 10_000
"""A weight is a number of buckets."""
CHAMPION = "champion"


class ShareError(ValueError):
    """Arms want more than there is, or the same keys."""


class Bucketing:
    """The buckets of one model's keys: independent of every other model's."""

    def __init__(self, model: str) -> None:
        """Take the model's name."""
        self._seed = mmh3.hash(model, signed=False)

    def bucket_of(self, key: str) -> int:
        """Return the bucket of a key, the same in every process and for all time."""
        return mmh3.hash(key, self._seed, False) % BUCKETS


def layout(arms: Sequence[Arm]) -> dict[str, list[tuple[int, int]]]:
    """Return which buckets each arm of one segment has, by name.

    Arms without buckets of their own get the first free ones, by name, the champion last. Raises
    `ShareError` if two have the same bucket, or all together more than there are.
    """
    taken = {arm.name: list(arm.buckets) for arm in arms if arm.buckets}
    _check(taken)
    free = _complement([span for spans in taken.values() for span in spans])
    for arm in sorted(arms, key=lambda arm: (arm.name == CHAMPION, arm.name)):
        if arm.name not in taken:
            taken[arm.name], free = _cut(free, arm.weight)
            if _size(taken[arm.name]) < arm.weight:
                raise ShareError(f"the arms get more than {BUCKETS} in all: {arm.name} finds too few left")
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
    """Return the arms with another share for one of them, taken from the champion or given back to it.

    Args:
        arms: All arms of the model; only the latest of each name is looked at.
        name: Of the arm that changes, new or not; not the champion.
        version: Which the arm scores with from now on.
        weight: Its new share, in 1/10,000.
        effective_from_ms: The event time from which on this holds.
        segment: Only among such requests. There, who gets none of the arms' buckets is asked of the
            champion.

    Raises `ShareError` if the champion has too little left.
    """
    chosen = {field: list(values) for field, values in (segment or {}).items()}
    if name == CHAMPION:
        raise ShareError("the champion has what the others leave; give another arm less")
    latest = {arm.name: arm for arm in _in_segment(arms, chosen)}
    owned = layout(list(latest.values()))
    own = owned.pop(name, [])
    pool = owned.pop(CHAMPION, [] if not chosen else _complement(own, *owned.values()))
    more = weight - _size(own)
    if more > _size(pool):
        raise ShareError(f"{name} wants {weight}; the champion has no more than {_size(pool)} to give")
    if more >= 0:
        taken, pool = _cut(pool, more)
        own = _merge(own + taken)
    else:
        own, given = _cut(own, weight)
        pool = _merge(pool + given)
    changed = Arm(
        name=name,
        version=version,
        weight=weight,
        effective_from_ms=effective_from_ms,
        segment=chosen,
        buckets=own,
    )
    result = [*arms, changed]
    if CHAMPION in latest:
        since_ms = max(effective_from_ms, latest[CHAMPION].effective_from_ms)
        result.append(
            msgspec.structs.replace(
                latest[CHAMPION], weight=_size(pool), buckets=pool, effective_from_ms=since_ms
            )
        )
    return _without_doubles(result)


def with_champion(arms: Sequence[Arm], version: int, *, effective_from_ms: int, now_ms: int) -> list[Arm]:
    """Return the arms with another version as the champion: it gets what the challengers leave.

    A challenger that has this version ends, as it has become the champion. What answers no request from
    ``now_ms`` on is left out.

    Args:
        arms: All arms of the model.
        version: Of the new champion.
        effective_from_ms: The event time from which on it answers.
        now_ms: Event time.
    """
    counting = _still_counting([arm for arm in arms if not arm.shadow], now_ms)
    outgoing = [arm for arm in counting if arm.name == CHAMPION and arm.effective_from_ms < effective_from_ms]
    challengers = _without_version(
        [arm for arm in counting if arm.name != CHAMPION], version, effective_from_ms
    )
    later = {arm.effective_from_ms for arm in challengers if not arm.segment}
    starts_ms = [effective_from_ms, *sorted(start for start in later if start > effective_from_ms)]
    champions = [
        Arm(name=CHAMPION, version=version, weight=BUCKETS - weight, effective_from_ms=start_ms)
        for start_ms in starts_ms
        for weight in [sum(arm.weight for arm in _in_effect(challengers, start_ms) if not arm.segment)]
    ]
    return [*outgoing, *champions, *challengers, *(arm for arm in arms if arm.shadow)]


def check(arms: Sequence[Arm]) -> None:
    """Raise `ShareError` if there is an event time from which on the arms cannot be laid out."""
    answering = [arm for arm in arms if not arm.shadow]
    for start_ms in sorted({arm.effective_from_ms for arm in answering}):
        segments: dict[bytes, list[Arm]] = {}
        for arm in _in_effect(answering, start_ms):
            segments.setdefault(_place(arm)[1], []).append(arm)
        for segment in segments.values():
            layout(segment)


def _place(arm: Arm) -> tuple[str, bytes]:
    """Return what an arm shares with those that it follows."""
    return arm.name, msgspec.json.encode(arm.segment, order="deterministic")


def _in_effect(arms: Iterable[Arm], at_ms: int) -> list[Arm]:
    """Return of each name and segment the latest arm that has begun by an event time."""
    begun = sorted(
        (arm for arm in arms if arm.effective_from_ms <= at_ms), key=lambda arm: arm.effective_from_ms
    )
    return list({_place(arm): arm for arm in begun}.values())


def _still_counting(arms: Sequence[Arm], now_ms: int) -> list[Arm]:
    """Return the arms that answer some request from an event time on, by their start."""
    begun = [arm for arm in _in_effect(arms, now_ms) if arm.weight]
    later = [arm for arm in arms if arm.effective_from_ms > now_ms]
    return sorted([*begun, *later], key=lambda arm: arm.effective_from_ms)


def _without_version(arms: Sequence[Arm], version: int, from_ms: int) -> list[Arm]:
    """End the arms that have a version at last."""
    last = {_place(arm): arm for arm in arms}
    ending = {place for place, arm in last.items() if arm.version == version}
    kept = [arm for arm in arms if _place(arm) not in ending or arm.effective_from_ms < from_ms]
    ends = [
        msgspec.structs.replace(arm, weight=0, buckets=[], effective_from_ms=from_ms)
        for arm in {_place(arm): arm for arm in kept if _place(arm) in ending}.values()
    ]
    return [*kept, *ends]


def _in_segment(arms: Iterable[Arm], segment: Mapping[str, list[FeatureValue]]) -> list[Arm]:
    answering = [arm for arm in arms if not arm.shadow and arm.segment == segment]
    return sorted(answering, key=lambda arm: arm.effective_from_ms)


def _without_doubles(arms: Sequence[Arm]) -> list[Arm]:
    """Keep the last of the arms that would begin at the same time under the same name."""
    kept = {
        (arm.name, arm.shadow, arm.effective_from_ms, msgspec.json.encode(arm.segment)): arm for arm in arms
    }
    return list(kept.values())


def _check(taken: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    end, owner = 0, ""
    for (first, behind), name in sorted((span, name) for name, spans in taken.items() for span in spans):
        if not 0 <= first < behind <= BUCKETS:
            raise ShareError(f"{name}: buckets {first} up to {behind} are none")
        if first < end:
            raise ShareError(f"{owner} and {name} both have bucket {first}")
        end, owner = behind, name


def _size(spans: Iterable[tuple[int, int]]) -> int:
    return sum(behind - first for first, behind in spans)


def _cut(spans: Sequence[tuple[int, int]], count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Part the first buckets, up to a count, from the others."""
    head: list[tuple[int, int]] = []
    tail: list[tuple[int, int]] = []
    for first, behind in sorted(spans):
        middle = min(behind, first + count)
        count -= middle - first
        head += [(first, middle)] if first < middle else []
        tail += [(middle, behind)] if middle < behind else []
    return head, tail


def _merge(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, behind in sorted(spans):
        if merged and merged[-1][1] == first:
            merged[-1] = (merged[-1][0], behind)
        else:
            merged.append((first, behind))
    return merged


def _complement(*owned: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    free, end = [], 0
    for first, behind in sorted(span for spans in owned for span in spans):
        if end < first:
            free.append((end, first))
        end = behind
    return [*free, (end, BUCKETS)] if end < BUCKETS else free
