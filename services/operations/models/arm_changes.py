"""Changes of a model's arms by an operator. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from services.model_registry import traffic_split
from services.model_registry.traffic_split import BUCKETS, CHAMPION, ShareError
from services.runtime import times
from services.runtime.declaration import ModelDeclaration
from streams import codec
from streams.codec import FieldType
from streams.records import Arm, FeatureValue, ModelChanged
from streams.records.model_changes import HELD_MS

_PERCENT = re.compile(r"(\d+(?:\.\d{1,2})?)%")
_BOOLS: Mapping[str, bool] = {"true": True, "false": False}

HELD_HINT = "no learned version becomes the champion until 'driftline models release"
"""Followed by the name of the model, and the closing quote."""

Segment = Mapping[str, Sequence[FeatureValue]]


class ChangeError(ValueError):
    """A requested change is not possible. The message is for the operator."""


def parse_share(text: str) -> int:
    """Parse a share: ``500`` in 1/10,000, or ``5%``.

    >>> parse_share("0.25%")
    25
    """
    if percent := _PERCENT.fullmatch(text):
        whole, _, hundredths = percent[1].partition(".")
        weight = int(whole) * 100 + int(hundredths.ljust(2, "0") or 0)
    elif text.isdecimal():
        weight = int(text)
    else:
        raise ChangeError(f"the share {text!r} is not valid: write 500 (in 1/{BUCKETS:,}) or 5%")
    if weight > BUCKETS:
        raise ChangeError(f"the share {text} is more than 100%")
    return weight


def parse_segment(declaration: ModelDeclaration, conditions: Iterable[str]) -> dict[str, list[FeatureValue]]:
    """Parse conditions such as ``carrier=UA,AA``; the values get the types in the request's schema."""
    types = {field.name: field.type for field in declaration.request.fields}
    segment: dict[str, list[FeatureValue]] = {}
    for condition in conditions:
        name, _, values = condition.partition("=")
        if not values:
            raise ChangeError(f"the segment {condition!r} is not valid: write field=value,value")
        if name not in types:
            raise ChangeError(
                f"requests of {declaration.name} have no field {name!r}; their fields: {', '.join(types)}"
            )
        segment[name] = [_typed(name, types[name], value) for value in values.split(",")]
    return segment


def _typed(name: str, kind: FieldType, text: str) -> FeatureValue:
    try:
        match kind:
            case FieldType.STRING:
                return text
            case FieldType.INT:
                return int(text)
            case FieldType.FLOAT:
                return float(text)
            case FieldType.BOOL:
                return _BOOLS[text]
            case FieldType.TIMESTAMP:
                raise ChangeError(f"{name} is a timestamp: a segment cannot use timestamps")
    except (ValueError, KeyError) as error:
        if isinstance(error, ChangeError):
            raise
        raise ChangeError(f"{text!r} is not a valid {kind}, which is the type of the field {name}") from None


def parse_time_ms(text: str) -> int:
    """Parse an event time in RFC 3339."""
    try:
        return times.instant_ms(text)
    except ValueError as error:
        raise ChangeError(str(error)) from None


def with_share(
    arms: Sequence[Arm], name: str, version: int, weight: int, *, from_ms: int, segment: Segment
) -> list[Arm]:
    """Return the arms with a new share for one of them; see `traffic_split.with_share`."""
    _check_no_later_change(arms, name, from_ms)
    changed = traffic_split.with_share(
        arms, name, version, weight, effective_from_ms=from_ms, segment=segment
    )
    traffic_split.check(changed)
    return changed


def with_champion(arms: Sequence[Arm], version: int, *, from_ms: int | None, now_ms: int) -> list[Arm]:
    """Return the arms with another champion; without ``from_ms`` the first one scores all event times."""
    first = not any(arm.name == CHAMPION for arm in arms)
    starts_ms = from_ms if from_ms is not None else 0 if first else now_ms
    changed = traffic_split.with_champion(
        arms, version, effective_from_ms=starts_ms, now_ms=min(now_ms, starts_ms)
    )
    traffic_split.check(changed)
    return changed


def without_arm(arms: Sequence[Arm], name: str, *, from_ms: int) -> list[Arm]:
    """Return the arms after one of them has returned its share to the champion, in every segment."""
    if name == CHAMPION:
        raise ChangeError("the arm of the champion cannot end: make another version the champion instead")
    active = answering(arms, name)
    if not active:
        raise ChangeError(f"no arm {name!r} has a share{_known(arms)}")
    result = list(arms)
    for arm in active:
        result = with_share(result, name, arm.version, 0, from_ms=from_ms, segment=arm.segment)
    return result


def answering(arms: Sequence[Arm], name: str) -> list[Arm]:
    """Return the latest arms of a name that answer a share of the requests, one for each segment."""
    latest = {msgspec.json.encode(arm.segment): arm for arm in _scoring(arms) if arm.name == name}
    return [arm for arm in latest.values() if arm.weight]


def with_shadow(arms: Sequence[Arm], name: str, version: int, *, now_ms: int) -> list[Arm]:
    """Return the arms with a new shadow, or with another version for a shadow."""
    if any(arm.name == name for arm in _scoring(arms)):
        raise ChangeError(f"{name} is an arm that scores requests: give the shadow another name")
    shadow = Arm(name=name, version=version, weight=0, effective_from_ms=now_ms, shadow=True)
    return [*(arm for arm in arms if arm.name != name), shadow]


def without_shadow(arms: Sequence[Arm], name: str) -> list[Arm]:
    """Return the arms without a shadow."""
    left = [arm for arm in arms if not (arm.shadow and arm.name == name)]
    if len(left) == len(arms):
        raise ChangeError(f"there is no shadow {name}{_known(arms)}")
    return left


def make_change(
    model: str, latest: ModelChanged | None, arms: list[Arm], *, reason: str, from_ms: int, now_ms: int
) -> ModelChanged:
    """Return the record; everything else in the latest one is kept, such as the champion's reference."""
    if latest is None:
        return ModelChanged(model=model, arms=arms, changed_at_ms=min(from_ms, now_ms), reason=reason)
    changed_at_ms = max(latest.changed_at_ms, min(from_ms, now_ms))
    return msgspec.structs.replace(latest, arms=arms, changed_at_ms=changed_at_ms, reason=reason)


def held(latest: ModelChanged) -> ModelChanged:
    """Return the record so that no learned version becomes the champion; of other models the same one."""
    if latest.learned is None:
        return latest
    return msgspec.structs.replace(
        latest, learned=msgspec.structs.replace(latest.learned, not_before_ms=HELD_MS)
    )


def is_held(change: ModelChanged) -> bool:
    """Tell whether learned versions of the model wait for a release."""
    return change.learned is not None and change.learned.not_before_ms >= HELD_MS


def released(
    model: str, latest: ModelChanged | None, reason: str, *, from_ms: int, now_ms: int
) -> ModelChanged:
    """Return the record with which learned versions become the champion again, from an event time on.

    Raises `ChangeError` if none are held.
    """
    if latest is None or latest.learned is None:
        raise ChangeError(f"{model} has no learned versions: there is nothing to release")
    if not is_held(latest):
        raise ChangeError(
            f"{model} is not held: its learned versions become the champion when they pass their gate"
        )
    change = make_change(
        model, latest, latest.arms, reason=f"by hand: {reason}", from_ms=from_ms, now_ms=now_ms
    )
    return msgspec.structs.replace(
        change, learned=msgspec.structs.replace(latest.learned, not_before_ms=from_ms)
    )


def format_arms(arms: Sequence[Arm]) -> list[str]:
    """Return a table with a line per arm, by the time from which on it is in effect, shadows last."""
    ordered = sorted(
        arms, key=lambda arm: (arm.shadow, arm.effective_from_ms, arm.name != CHAMPION, arm.name)
    )
    rows = [("ARM", "VERSION", "SHARE", "FROM", "SEGMENT"), *map(_row, ordered)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(arm: Arm) -> tuple[str, str, str, str, str]:
    share = "shadow" if arm.shadow else f"{arm.weight / 100:g}%"
    segment = " ".join(f"{name}={','.join(map(str, values))}" for name, values in arm.segment.items())
    return arm.name, str(arm.version), share, _time(arm.effective_from_ms), segment or "-"


def _time(time_ms: int) -> str:
    if time_ms == 0:
        return "the beginning"
    return (codec.EPOCH + time_ms * codec.MILLISECOND).isoformat(timespec="seconds").replace("+00:00", "Z")


def _check_no_later_change(arms: Sequence[Arm], name: str, from_ms: int) -> None:
    """Raise `ShareError` if a later change is planned.

    A share is taken from the champion's latest share, which is not in effect before that change.
    """
    later = [
        arm for arm in _scoring(arms) if arm.effective_from_ms > from_ms and arm.name in (name, CHAMPION)
    ]
    if later:
        at = _time(later[-1].effective_from_ms)
        raise ShareError(f"a change of {later[-1].name} is planned for {at}: give --from {at} or later")


def _scoring(arms: Iterable[Arm]) -> list[Arm]:
    return sorted((arm for arm in arms if not arm.shadow), key=lambda arm: arm.effective_from_ms)


def _known(arms: Sequence[Arm]) -> str:
    names = sorted({arm.name for arm in arms})
    return f"; known arms: {', '.join(names)}" if names else "; the model has no arms"
