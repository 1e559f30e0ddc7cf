"""Plays a world: collect, train the first model, play to the end, close every window."""

import asyncio
import time
from typing import TYPE_CHECKING

from services.demo import board, pace, retrainings
from services.demo.account import RequestAccount
from services.demo.followers import AccountFollower, RetrainingFollower
from services.demo.gate import Gate
from services.demo.producer import WorldProducer
from services.demo.retrainings import RetrainingLog, RetrainingRequests
from services.runtime import redis_clients
from streams import topics
from streams.producer import BatchProducer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from services.demo.options import Options
    from services.demo.playlist import Playlist
    from services.demo.trial.verdicts import CandidateVerdict
    from services.demo.world import Companion
    from services.runtime.declaration import ModelDeclaration
    from services.runtime.settings import Settings

_OVERDUE_SECONDS_MAX = 0.5
"""Maximum delay that is caught up at a given speed; after a longer one the clock gets a new anchor."""


class Play:
    """One run through a world. It always holds everything that the board and the summary show."""

    def __init__(
        self,
        settings: "Settings",
        declaration: "ModelDeclaration",
        companion: "Companion",
        playlist: "Playlist",
        options: "Options",
    ) -> None:
        """Create the parts for the retrained model and the world's companion; nothing connects yet."""
        self._settings = settings
        self.declaration = declaration
        self._options = options
        self._lead_ms = pace.lead_ms(
            options.lead_hours,
            min(
                each.effective_after_hours
                for each in (declaration.retraining, companion.learning)
                if each is not None
            ),
        )
        self._tick_ms = pace.tick_ms(options.speed, self._lead_ms)
        self._clock: pace.SpeedClock | None = None
        self._rates = (board.Meter(), board.Meter())
        self._collecting_sent: int | None = None
        self._began_seconds = time.monotonic()
        self._start_ms = playlist.start_ms
        self.phase = "starting"
        self.complete = False
        self.ends: dict[str, list[int]] = {}
        """End offsets of the topics of predictions and outcomes, when complete."""
        self._calendar = options.world.calendar
        self.account = RequestAccount(
            declaration.name,
            declaration.request.topic,
            declaration.rollout.keep_first_as_shadow,
            self._calendar,
            companion.positives,
        )
        self.companion = companion
        self.log = RetrainingLog(declaration.name)
        self._kafka = BatchProducer(settings.kafka_options())
        self.producer = WorldProducer(self._kafka, playlist)
        self._requests = RetrainingRequests(
            self.log, self._kafka, cloud_events=settings.cloud_events != "none"
        )
        self._account_follower = AccountFollower(settings, self.account, companion, settings.partitions)
        self._retraining_follower = RetrainingFollower(settings, self.log)
        self._gate: Gate | None = None
        self.verdicts: tuple[CandidateVerdict, ...] = ()
        """On candidates that should be stopped, see `services.demo.trial`."""

    @property
    def requests_sent(self) -> int:
        """Requests since scoring started."""
        return 0 if self._collecting_sent is None else self.producer.sent.requests - self._collecting_sent

    @property
    def collecting_sent(self) -> int:
        """Requests before scoring started."""
        return self.producer.sent.requests if self._collecting_sent is None else self._collecting_sent

    @property
    def holding_seconds(self) -> float:
        """Wall time during which event time was stopped for retrainings."""
        return self._gate.holding_seconds if self._gate else 0.0

    @property
    def waiting_seconds(self) -> float:
        """Wall time during which the producer waited for the processes."""
        return self._gate.waiting_seconds if self._gate else 0.0

    @property
    def streaming_seconds(self) -> float:
        """Wall time since the first event."""
        return time.monotonic() - self._began_seconds

    async def run(self) -> None:
        """Play to the end; raise `StalledError`, `RetrainingFailedError` or `CatchUpError` on failure."""
        redis = redis_clients.connect(self._settings, single_connection_client=True)
        clients = (self._kafka, self._account_follower, self._retraining_follower)
        try:
            await asyncio.gather(*(client.start() for client in clients))
            self._gate = Gate(
                redis,
                self.log,
                self._retraining_follower,
                learning=[self.companion.model] if "learning" in self._options.world.processes else [],
                lead_ms=self._lead_ms,
                start_ms=self._start_ms,
            )
            await beside(self._play(self._gate), self._account_follower.follow())
        finally:
            await asyncio.gather(*(client.stop() for client in clients), return_exceptions=True)
            await redis.aclose()

    async def _play(self, gate: Gate) -> None:
        self._began_seconds = time.monotonic()
        self.phase = "collecting: there is no model yet"
        await self._play_until(gate, self._calendar.scoring_start_ms)
        await self._train_first_model(gate)
        await self._score(gate)
        await self._close(gate)
        self.phase = "finished"
        self.complete = True

    async def _score(self, gate: Gate) -> None:
        """Play the requests that a model answers; ask for a training when the last one is too old.

        The schedule of model.yaml (``retraining.every_days``) goes by the clock, but event time passes faster
        here. So the demo asks, as a scheduler would.
        """
        until_ms, days = self._options.until_ms, self._options.world.retraining_days
        while days and (due_ms := self.log.last_requested_ms + days * pace.DAY_MS) < until_ms:
            await self._play_until(gate, due_ms)
            await gate.reach(due_ms)
            if self.log.last_requested_ms + days * pace.DAY_MS > due_ms:
                continue  # drift has asked since
            model = self.declaration.name
            offsets = await self._next_offsets(topics.predictions(model), topics.outcomes(model))
            request = retrainings.scheduled_request(model, due_ms, days, offsets)
            await self._requests.write(request)
            await gate.finish(request.request_id)
        await self._play_until(gate, until_ms)

    async def _close(self, gate: Gate) -> None:
        """Play heartbeats until all labels are known."""
        self.phase = "waiting for the last labels"
        end_ms = pace.closing_end_ms(
            self._options.until_ms, self.declaration.label.horizon_ms, self.declaration.monitoring.window_ms
        )
        await self._play_until(gate, end_ms)
        await gate.reach(end_ms)
        await self._account_follower.catch_up()
        model = self.declaration.name
        self.ends = await self._next_offsets(topics.predictions(model), topics.outcomes(model))

    async def _train_first_model(self, gate: Gate) -> None:
        """Request the first model in the same way as any retraining, and wait for it."""
        at_ms, model = self._calendar.scoring_start_ms, self.declaration.name
        await gate.reach(at_ms)
        self.phase = "training the first model"
        offsets = await self._next_offsets(
            topics.predictions(model), topics.outcomes(model), self.declaration.request.topic
        )
        self.account.start_scoring(dict(enumerate(offsets.pop(self.declaration.request.topic))))
        self._collecting_sent = self.producer.sent.requests
        request = retrainings.bootstrap_request(model, at_ms, offsets)
        await self._requests.write(request)
        await gate.finish(request.request_id)
        retrainings.check_first_model(self.log.finished[request.request_id])
        self.phase = "scoring"

    async def _next_offsets(self, *names: str) -> dict[str, list[int]]:
        partitions = self._settings.partitions
        return {name: await self._account_follower.next_offsets(name, partitions) for name in names}

    async def _play_until(self, gate: Gate, milestone_ms: int) -> None:
        sent = self.producer.sent
        while sent.position_ms < milestone_ms:
            end_ms = pace.tick_end_ms(sent.position_ms, self._tick_ms, milestone_ms)
            await gate.permit(end_ms)
            await self._wait_until_due(end_ms)
            await self.producer.play(end_ms)

    async def _wait_until_due(self, event_ms: int) -> None:
        if self._options.speed is None:
            return
        now = time.monotonic()
        if self._clock is None or self._clock.overdue_seconds(event_ms, now) > _OVERDUE_SECONDS_MAX:
            self._clock = pace.SpeedClock(self._options.speed, event_ms, now)
        await asyncio.sleep(self._clock.wait_seconds(event_ms, now))

    def snapshot(self, seconds: float) -> board.BoardState:
        """Return the present state of the board; ``seconds`` is the wall time since the demo's start."""
        sent, gate = self.producer.sent, self._gate
        watermark_ms = gate.permission.watermark_ms if gate else sent.position_ms
        requests = [] if gate is None or not gate.holding else self.log.open
        return board.BoardState(
            phase="event time is stopped: retraining" if requests and self._collecting_sent else self.phase,
            start_ms=self._start_ms,
            end_ms=self._options.until_ms,
            position_ms=sent.position_ms,
            watermark_ms=watermark_ms,
            events_a_second=self._rates[0].update(sent.events, time.monotonic()),
            predictions_a_second=self._rates[1].update(self.account.predicted, time.monotonic()),
            seconds=seconds,
            version=self.account.version_at(sent.position_ms),
            table=self.account.months(),
            alarms=self.account.alarms_in_order(),
            retrainings=self.log.results(),
            open_reasons=[request.reason for request in requests],
            calendar=self._calendar,
        )


async def beside(work: "Coroutine[None, None, None]", *background: "Coroutine[None, None, None]") -> None:
    """Await work while background coroutines run; the first failure cancels all of them and is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in (work, *background)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
