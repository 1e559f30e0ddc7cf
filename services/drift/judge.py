"""What is made of the champion's rows, losses and windows: alarms, and requests for retraining."""

from collections.abc import Iterable, Mapping

import msgspec

from services.drift.alarms import Alarms, Finding, Kind, Watch, alarm_of, alarm_of_change
from services.drift.comparison import Comparison
from services.drift.detection import Change
from services.drift.harm import LossMonitor, MonitorState
from services.drift.multivariate import relation
from services.drift.placing import Placed, Rows
from services.drift.references import References
from services.drift.watching import HARM, LossWatchers, Noticed, Watchers, WatcherState
from services.drift.window import Window
from services.model import DAY_MS, MONTH_MS, ModelDeclaration
from streams import records

CHAMPION_WEIGHT_MIN = 5_000
"""An arm with more than half of the keys is the champion."""


class JudgeState(msgspec.Struct):
    """All that a `Judge` knows."""

    champion: int
    monitor: MonitorState
    watches: dict[str, Watch]
    watchers: dict[str, WatcherState]
    loss_watchers: dict[str, bytes]
    rise: records.DriftAlarm | None
    requested_at_ms: list[int]
    pairs: bytes | None = None


class Judge:
    """Follows one champion after the other.

    What rows and losses show is held until `raised`, because rows are watched many at once: each comes with
    the place in the common order at which it was noticed, and is raised in that order.
    """

    def __init__(self, declaration: ModelDeclaration, references: References, state: JudgeState) -> None:
        """Go on from a state."""
        self.model = declaration.name
        self._monitoring = declaration.monitoring
        self._cooldown_ms = round(declaration.retraining.cooldown_days * DAY_MS)
        self._is_retrained = declaration.is_retrained
        self._minimum_labels = declaration.retraining.minimum_labels
        self._references = references
        self.champion = state.champion
        self._monitor = LossMonitor(self._monitoring.adwin_delta, 0, state.monitor)
        self._alarms = Alarms(self._monitoring.alarm_windows, state.watches)
        self._watch_champion(state.watchers, state.pairs, state.loss_watchers)
        self._rise = state.rise
        self._requested_at_ms = set(state.requested_at_ms)
        self._found: list[tuple[int, records.DriftAlarm]] = []

    def state(self) -> JudgeState:
        """Return what `__init__` takes."""
        return JudgeState(
            champion=self.champion,
            monitor=self._monitor.state(),
            watches=self._alarms.watches,
            watchers=self._watchers.state(),
            pairs=self._watchers.pairs_state(),
            loss_watchers=self._loss_watchers.state(),
            rise=self._rise,
            requested_at_ms=sorted(self._requested_at_ms),
        )

    # -- champions -------------------------------------------------------------------------------

    def is_followed_by(self, prediction: records.Prediction) -> bool:
        """Tell whether a prediction shows that another champion serves."""
        return prediction.version != self.champion and prediction.arm_weight > CHAMPION_WEIGHT_MIN

    def follow(self, version: int, window_start_ms: int) -> None:
        """Another champion serves: its losses and its alarms begin anew. Raise what was found before."""
        self.champion = version
        self._monitor = LossMonitor(self._monitoring.adwin_delta, window_start_ms)
        self._alarms.clear()
        self._watch_champion({}, None, {})
        self._rise = None

    def _watch_champion(
        self, watchers: Mapping[str, WatcherState], pairs: bytes | None, loss_watchers: Mapping[str, bytes]
    ) -> None:
        reference = self._references.get(self.champion)
        self._watchers = Watchers(reference, self._monitoring, watchers, pairs)
        self._loss_watchers = LossWatchers(reference, self._monitoring, self._watchers.streams, loss_watchers)

    # -- rows and losses -------------------------------------------------------------------------

    def take_rows(self, rows: Rows, places: list[int], window: Window) -> None:
        """Count rows in their window and watch them; each has its place in the common order."""
        in_window = window.placing.of(rows) if window.placing else None
        counted = 0
        for row, noticed in self._watched(rows, window, in_window):
            window.count(rows, in_window, counted, row + 1)  # an alarm tells of the window so far
            counted = row + 1
            self._found.append((places[row], self._alarm_of_noticed(noticed, window)))
        window.count(rows, in_window, counted, len(rows))

    def take_loss(self, loss: float, time_ms: int, place: int, *, wrong: bool) -> None:
        """Watch the loss of one outcome of the champion's."""
        if self._monitor.add(loss):
            self._note_rise(time_ms, place)
        for detector, change in self._loss_watchers.add(loss, time_ms, wrong=wrong):
            self._found.append((place, self._alarm_of_harm(detector, change)))

    def raised(self) -> list[records.DriftAlarm]:
        """Raise what was found since the last call, in the common order; return what is news."""
        found = sorted(self._found, key=lambda each: each[0])
        self._found.clear()
        return [alarm for _, alarm in found if self._alarms.raise_once(alarm)]

    def _watched(self, rows: Rows, window: Window, in_window: Placed | None) -> list[tuple[int, Noticed]]:
        placing = self._references.placing(self.champion)
        if placing is None:
            return []
        placed = in_window if in_window is not None and placing is window.placing else placing.of(rows)
        return sorted(self._watchers.add(rows, placed, self.champion), key=lambda each: each[0])

    def _note_rise(self, detected_at_ms: int, place: int) -> None:
        mean, limit = self._monitor.mean_since_change, self._loss_limit()
        text = f"ADWIN: the log loss rose to {mean:.3f}"
        finding = Finding("loss", "log_loss", mean, mean if limit is None else limit, text)
        since_ms = self._monitor.change_start_ms()
        self._rise = alarm_of(self.model, self.champion, finding, detected_at_ms, since_ms, "adwin")
        if limit is None or mean > limit:  # a rise that does no harm is no alarm
            self._found.append((place, self._rise))

    # -- windows ---------------------------------------------------------------------------------

    def watch_rest(self, window: Window) -> list[records.DriftAlarm]:
        """Watch the rows that are held, at the end of a window; return the alarms that are news."""
        found = [self._alarm_of_noticed(noticed, window) for noticed in self._watchers.watch()]
        return [alarm for alarm in found if self._alarms.raise_once(alarm)]

    def close_window(self, end_ms: int) -> None:
        """Begin the losses of the next window."""
        self._monitor.close_window(end_ms)

    def observe(
        self,
        compared: Iterable[Comparison],
        score: Comparison | None,
        relations: records.RelationDrift | None,
    ) -> None:
        """Let the window say which alarms no longer hold."""
        for comparison in compared:
            feature = comparison.drift.feature
            self._alarms.observe("feature", feature, drifted=comparison.shifted)
            self._alarms.observe("category", feature, drifted=comparison.new_categories)
        if score is not None:
            self._alarms.observe("score", "score", drifted=score.shifted)
        if relations is not None:
            changed = {relation(pair.first, pair.second) for pair in relations.pairs if pair.drifted}
            for subject in self._alarms.subjects("relation"):
                self._alarms.observe("relation", subject, drifted=subject in changed)

    # -- alarms ----------------------------------------------------------------------------------

    def standing_ids(self) -> list[str]:
        """Return the ids of all alarms that stand."""
        return self._alarms.standing_ids()

    def _alarm_of_noticed(self, noticed: Noticed, window: Window) -> records.DriftAlarm:
        """Tell what a detector found in a feature or in the scores; new categories are called so."""
        change, subject = noticed.change, noticed.subject
        value, threshold = change.value / MONTH_MS, change.threshold / MONTH_MS
        where = f" where {noticed.segment}" if noticed.segment else ""
        rank = 0.5 if change.effect is None else change.effect
        text = noticed.text or (
            f"{subject}{where}: values of late stand at {rank:.2f} of those known, without a change at 0.50"
        )
        kind: Kind = noticed.kind
        cells = next((cells for cells in window.features if cells.name == subject), None)
        share = cells.unseen_total / max(int(cells.counts.sum()), 1) if cells and kind == "feature" else 0.0
        if cells and share >= self._monitoring.new_category_share:
            kind = "category"
            text = f"{subject}{where}: {share:.1%} of the values are new: {', '.join(list(cells.unseen)[:5])}"
        finding = Finding(kind, subject, value, threshold, text)
        return alarm_of_change(self.model, self.champion, finding, change, "e-detector", noticed.segment)

    def _alarm_of_harm(self, detector: str, change: Change) -> records.DriftAlarm:
        limit = self._loss_limit()
        text = f"the log loss is above {limit:.3f} in the mean" if detector == HARM else "the losses changed"
        finding = Finding("loss", "log_loss", change.value, change.threshold, f"{detector}: {text}")
        return alarm_of_change(self.model, self.champion, finding, change, detector)

    # -- harm ------------------------------------------------------------------------------------

    def learn_request(self, requested_at_ms: int) -> None:
        """Learn that a retraining was asked for: it starts the cooldown."""
        self._requested_at_ms.add(requested_at_ms)

    def judge_loss(
        self, end_ms: int, offsets: Mapping[str, list[int]]
    ) -> tuple[list[records.DriftAlarm], list[records.RetrainingRequested]]:
        """Raise the loss alarm at the end of a window; ask for a retraining while harm lasts."""
        limit, windows = self._loss_limit(), self._monitoring.loss_windows
        recent = self._monitor.recent_loss(windows)
        harmed, alarms = False, []
        if limit is not None and recent is not None:
            harmed = recent > limit
            text = f"mean log loss {recent:.3f} of the last {windows} windows is above {limit:.3f}"
            finding = Finding("loss", "log_loss", recent, limit, text)
            since_ms = self._monitor.recent_start_ms(windows)
            self._alarms.observe("loss", "log_loss", drifted=harmed)
            alarm = alarm_of(self.model, self.champion, finding, end_ms, since_ms)
            if harmed and self._alarms.raise_once(alarm):
                alarms.append(alarm)
        rise, self._rise = self._rise, None
        harmful_rise = rise is not None and (limit is None or rise.value > limit)
        if (harmed or harmful_rise) and self._may_request(end_ms):
            return alarms, [self._request(end_ms, [rise] if rise and harmful_rise else [], offsets)]
        return alarms, []

    def _loss_limit(self) -> float | None:
        reference = self._references.get(self.champion)
        return None if reference is None else reference.log_loss + self._monitoring.loss_tolerance

    def _may_request(self, now_ms: int) -> bool:
        """Tell whether cooldown and labels allow it. Later requests, which a replay sees, do not count."""
        if not self._is_retrained or self._monitor.labels < self._minimum_labels:
            return False
        return not any(now_ms - self._cooldown_ms < asked < now_ms for asked in self._requested_at_ms)

    def _request(
        self, now_ms: int, rises: list[records.DriftAlarm], offsets: Mapping[str, list[int]]
    ) -> records.RetrainingRequested:
        evidence = [*rises, *self._alarms.standing()]
        self._requested_at_ms = {
            asked for asked in self._requested_at_ms if asked > now_ms - self._cooldown_ms
        }
        self._requested_at_ms.add(now_ms)
        return records.RetrainingRequested(
            request_id=f"{self.model}-{now_ms}",
            model=self.model,
            trigger="drift",
            requested_at_ms=now_ms,
            reason=evidence[0].message if evidence else "the log loss is above its limit",
            evidence=evidence,
            offsets=dict(offsets),
        )


def fresh(declaration: ModelDeclaration) -> JudgeState:
    """Return the state before the first record."""
    return JudgeState(
        champion=0,
        monitor=LossMonitor(declaration.monitoring.adwin_delta, 0).state(),
        watches={},
        watchers={},
        loss_watchers={},
        rise=None,
        requested_at_ms=[],
    )
