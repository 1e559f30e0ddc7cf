"""Which version is a model's champion, from the changes on the models topic and by event time. Pure.

A change may be written after the time from which it applies, because a training takes hours: the requests in
between were answered by the previous champion. So a version becomes the champion with the first record that

1. its champion's arm answered, and
2. for whose event time the changes list it as the champion, after the one so far.

Such a record exists only after its change, which scoring had read. So it is enough to read the models topic
when a record does not fit the known changes (`are_known`), and the result does not depend on how early they
were read. Rows of other arms, and of workers that changed later, never change the champion.
"""

import bisect
import operator
from collections.abc import Iterable, Sequence

import msgspec

from services.model_registry.traffic_split import CHAMPION, is_champion
from streams import records
from streams.inputs import AFTER_ALL_MS, BEFORE_ALL_MS

SPANS_MAX = 256
"""Maximum spans in a state, the latest: a model that learns hourly has that many in ten days."""


class ChampionSpan(msgspec.Struct, array_like=True, frozen=True):
    """A version that is the champion until the next span begins."""

    start_ms: int
    """Event time."""
    version: int


_START = operator.attrgetter("start_ms")


class ChampionsState(msgspec.Struct):
    """All that `Champions` knows."""

    since_ms: int = BEFORE_ALL_MS
    """Start of the span of the present champion; `BEFORE_ALL_MS` if no known change lists it."""
    spans: list[ChampionSpan] = []


class Champions:
    """The champions of one model over event time, and the present one.

    A version that no change lists, as in predictions of another scoring service, becomes the champion if its
    number is higher, as long as no change has listed a champion that answers.
    """

    def __init__(self, version: int, state: ChampionsState) -> None:
        """Continue with the champion of a state; version 0 is none."""
        self.version = version
        self._since_ms = state.since_ms
        self._spans = list(state.spans)
        self._kept_until_ms = BEFORE_ALL_MS
        """Records of the champion change nothing before this event time."""
        self.are_known = True
        """Whether every record so far fits the known changes: else read the models topic to its end, then
        `settle`."""
        self._unlisted = version
        """The highest version that answered as the champion and that no change lists."""
        self._expected = (BEFORE_ALL_MS, BEFORE_ALL_MS, 0)
        """The last span in which a record was looked up, and the version expected in it."""

    def learn(self, change: records.ModelChanged) -> None:
        """Take a change: from the first champion that it lists on, its champions replace those known."""
        listed = sorted(filter(is_champion, change.arms), key=_EFFECTIVE_FROM)
        if listed:
            kept = [span for span in self._spans if span.start_ms < listed[0].effective_from_ms]
            new = [ChampionSpan(arm.effective_from_ms, arm.version) for arm in listed]
            self._spans = _merged([*kept, *new])[-SPANS_MAX:]
            self._kept_until_ms = BEFORE_ALL_MS
            self._expected = (BEFORE_ALL_MS, BEFORE_ALL_MS, 0)

    def note(self, prediction: records.Prediction) -> None:
        """Note a prediction when it is read: `are_known` tells whether it fits the known changes."""
        if prediction.arm != CHAMPION or not prediction.version:
            return
        time_ms = prediction.event_time_ms
        start_ms, stop_ms, version = self._expected
        if not start_ms <= time_ms < stop_ms:
            start_ms, stop_ms, version = self._expected = self._expect(time_ms)
        if prediction.version == version:
            return
        self.are_known = False
        if start_ms == BEFORE_ALL_MS:
            self._unlisted = max(self._unlisted, prediction.version)

    def settle(self) -> None:
        """Continue with the changes that are known: the models topic contains no others."""
        self.are_known = True
        self._expected = (BEFORE_ALL_MS, BEFORE_ALL_MS, 0)

    def follow(self, prediction: records.Prediction, at_ms: int) -> bool:
        """Return whether a prediction begins another champion, which `version` is then.

        Args:
            prediction: The next prediction in the common order of all inputs.
            at_ms: Its event time, or the time at which it counts if that is earlier.
        """
        version = prediction.version
        if prediction.arm != CHAMPION or not version:
            return False
        is_another = version != self.version
        if not is_another and at_ms < self._kept_until_ms:
            return False
        start_ms = self._start_of(version, at_ms)
        if start_ms is None:
            if is_another and not self._may_be_unlisted(prediction):
                return False
            start_ms = BEFORE_ALL_MS if is_another else self._since_ms
        elif is_another and start_ms < self._since_ms and not self._is_replaced(version, at_ms):
            return False
        self.version, self._since_ms = version, start_ms
        after = bisect.bisect_right(self._spans, max(start_ms, at_ms), key=_START)
        self._kept_until_ms = self._spans[after].start_ms if after < len(self._spans) else AFTER_ALL_MS
        return is_another

    def state(self) -> ChampionsState:
        """Return what `__init__` takes, with `version`."""
        return ChampionsState(self._since_ms, list(self._spans))

    def _expect(self, time_ms: int) -> tuple[int, int, int]:
        """Return the span that contains an event time: its start, its end, and the version expected in it."""
        after = bisect.bisect_right(self._spans, time_ms, key=_START)
        stop_ms = self._spans[after].start_ms if after < len(self._spans) else AFTER_ALL_MS
        if not after:
            return BEFORE_ALL_MS, stop_ms, self._unlisted
        span = self._spans[after - 1]
        return span.start_ms, stop_ms, span.version

    def _start_of(self, version: int, at_ms: int) -> int | None:
        """Return the start of the latest span of a version that has begun; None if there is none."""
        begun = self._spans[: bisect.bisect_right(self._spans, at_ms, key=_START)]
        return next((span.start_ms for span in reversed(begun) if span.version == version), None)

    def _may_be_unlisted(self, prediction: records.Prediction) -> bool:
        """Tell whether an unlisted version may be the champion, which a fallback for another arm may not."""
        is_fallback = prediction.fallback_from is not msgspec.UNSET
        return self._since_ms == BEFORE_ALL_MS and prediction.version > self.version and not is_fallback

    def _is_replaced(self, version: int, at_ms: int) -> bool:
        """Tell whether a later change has put a version in the place of the present champion's span."""
        first_ms = self._spans[0].start_ms
        if self._since_ms < first_ms or ChampionSpan(self._since_ms, self.version) in self._spans:
            return False
        return self._expect(at_ms)[2] == version


_EFFECTIVE_FROM = operator.attrgetter("effective_from_ms")


def _merged(spans: Sequence[ChampionSpan]) -> list[ChampionSpan]:
    """Return spans by start, the last of those with the same one, without those of the version before."""
    by_start: Iterable[ChampionSpan] = {span.start_ms: span for span in spans}.values()
    merged: list[ChampionSpan] = []
    for span in by_start:
        if not merged or merged[-1].version != span.version:
            merged.append(span)
    return merged
