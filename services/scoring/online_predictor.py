"""One model as it is asked over HTTP: its limits, its batches, its log. Knows nothing of HTTP itself."""

import asyncio
import contextlib
import dataclasses
import operator
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from services.runtime import metrics
from services.scoring.arm_routing import NOBODY, UnknownVersionError
from services.scoring.batching import Batcher, Part
from services.scoring.explanations.explainer import Explainer
from services.scoring.explanations.shap_values import Explanation
from services.scoring.inference import Scored, Scorer, count_answers
from services.scoring.outputs import Answers
from services.scoring.prediction_log import PredictionLog, Producer
from streams import codec, records, schemas

if TYPE_CHECKING:
    from streams.producer import Record


LOAD_SECONDS_MAX = 60.0
"""For the versions to be loaded, which the first caller after a start may have to wait for."""


class Overload(Exception):  # noqa: N818  # a state, not an error of ours
    """As many requests as the model allows are at work."""


class UnanswerableError(RuntimeError):
    """No answer can be given now: no model is in effect."""


class RefusedError(ValueError):
    """A row or label cannot be taken as it is: a feature lacks that must be there, or its time is wrong."""


class FailedError(RuntimeError):
    """The model failed on a row that was as declared."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """The answers to n requests, in their order."""

    ids: list[str]
    arms: list[records.Arm]
    answers: Answers
    scored: Scored
    """With ``rows``: what they were part of."""
    rows: range


class Endpoint:
    """Answers requests within the limits of model.yaml."""

    def __init__(
        self,
        scorer: Scorer,
        producer: Producer,
        *,
        cloud_events: bool = False,
        label_encoder: schemas.Encoder | None = None,
    ) -> None:
        """Wire it; see `running`. Labels are written as plain JSON where no encoder is given."""
        self.name = scorer.name
        self.declaration = scorer.declaration
        self.scorer = scorer
        self.limits = scorer.declaration.limits
        self._producer = producer
        label = scorer.declaration.label
        self.label_decoder = codec.EventDecoder(
            dataclasses.replace(field, nullable=field.nullable and field.name != label.value)
            for field in label.fields
        )
        """As declared, but for the value: drift takes no label without one."""
        self._label_encoder = label_encoder
        self._label_id = operator.attrgetter(label.id)
        self._label_time = operator.attrgetter(label.event_time)
        self._log = PredictionLog(scorer, producer, cloud_events=cloud_events)
        self._explainer = Explainer(scorer)
        self._batcher = Batcher(self._score, rows_max=self.limits.rows_max, batches_max=self.limits.threads)
        self._at_work = 0
        self._unanswered = metrics.REQUESTS_UNANSWERED.labels(self.name, "rest")
        self.observe_seconds = metrics.PREDICTION_DURATION.labels(self.name, "rest").observe

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Log what is answered until the block ends."""
        async with self._log.running():
            yield

    @property
    def versions(self) -> list[int]:
        """The versions that answer, the oldest first."""
        return sorted({arm.version for arm in self.scorer.models.routes.answering})

    async def load(self) -> None:
        """Load what answers, so that the first caller does not wait for it; a failure is told to callers."""
        loading = (self.scorer.models.version(version) for version in self.versions)
        await asyncio.gather(*loading, return_exceptions=True)

    async def answer(self, events: Sequence[Any], *, version: int | None = None) -> Answered:
        """Answer decoded requests.

        A ``version`` asked for by number answers whatever the arms' shares are; such answers are not logged,
        because no chance assigned them.

        Raises:
            Overload: At once, with ``limits.requests_max`` at work.
            TimeoutError: After ``limits.seconds_max``; `LOAD_SECONDS_MAX` more while versions are loaded.
            UnanswerableError: No model is in effect.
            UnknownVersionError: The version does not answer.
            RefusedError: A feature is missing that must not be, no model was in effect at a row's time, or
                that is of the future.
            FailedError: The model failed on a row; anything else that the model raises if it fails on all.
        """
        _check_times("rows", map(self.scorer.event_time_ms, events))
        try:
            async with self._place():
                if not self.scorer.models.loaded:
                    await asyncio.wait_for(self.load(), LOAD_SECONDS_MAX)
                async with asyncio.timeout(self.limits.seconds_max):
                    part = await self._ask(events, version)
            _check(self.name, part)
        except Exception as error:
            if not isinstance(error, RefusedError | UnknownVersionError):
                self._unanswered.inc(len(events))
            raise
        return self._read(part)

    async def _ask(self, events: Sequence[Any], version: int | None) -> Part:
        if version is None:
            return await self._batcher.ask(events)
        return Part(await self.scorer.answer(events, version=version), 0, len(events))

    async def explain(self, answered: Answered) -> list[Explanation | None]:
        """Tell what each feature contributed to n answers; see `services.scoring.explanations.explainer`."""
        first, behind = answered.rows.start, answered.rows.stop
        features = {name: column[first:behind] for name, column in answered.scored.features.items()}
        return await self._explainer.explain(features, answered.arms, answered.scored.outputs[first:behind])

    async def write_labels(self, labels: Sequence[Any]) -> None:
        """Write decoded labels to the label topic, by the id of their request, as all labels.

        Returns when the broker has acknowledged all; after an error or a `TimeoutError` some may be there,
        and may be sent again: drift counts a label once. Raises `Overload` as `answer`, `RefusedError` for
        a label of the future; with a registry `RegistryAwayError`, and `InvalidRecordError` for what its
        schema does not take.
        """
        _check_times("labels", (codec.epoch_ms(self._label_time(label)) for label in labels))
        async with self._place(), asyncio.timeout(self.limits.seconds_max):
            encode: Callable[[Any], bytes] = msgspec.json.encode
            if self._label_encoder is not None:
                await asyncio.to_thread(self._label_encoder.prepare)
                encode = self._label_encoder.encode
            batch: list[Record] = [(self._label_id(label).encode(), encode(label), []) for label in labels]
            await self._producer.send_by_key(self.declaration.label.topic, batch)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Hold one of the model's places."""
        if self._at_work >= self.limits.requests_max:
            raise Overload
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    async def _score(self, events: Sequence[Any]) -> Scored:
        scored = await self.scorer.answer(events)
        unanswered = np.flatnonzero(scored.arm_of == NOBODY).tolist()
        if unanswered:
            failed = dict.fromkeys(unanswered, "no model is in effect") | dict(scored.failed)
            scored = dataclasses.replace(scored, failed=failed)
        count_answers(self.name, scored)
        self._explainer.background.add(scored.features)
        # The callers are told first: they wait in futures that are set when this returns.
        asyncio.get_running_loop().call_soon(self._log.add, scored)
        return scored

    def _read(self, part: Part) -> Answered:
        scored, rows = part.scored, part.rows
        return Answered(
            ids=scored.ids[part.first : part.behind],
            arms=[scored.arm(row) for row in rows],
            answers=self.scorer.task.answers(scored.outputs[part.first : part.behind]),
            scored=scored,
            rows=rows,
        )


def _check_times(what: str, event_times_ms: Iterable[int]) -> None:
    """Refuse what its consumers would take for an event of the future; see `streams.codec`."""
    now_ms = time.time_ns() // 1_000_000
    for index, event_time_ms in enumerate(event_times_ms):
        try:
            codec.check_event_time(event_time_ms, now_ms)
        except codec.InvalidRecordError as error:
            raise RefusedError(f"{what}[{index}]: {error}") from error


def _check(model: str, part: Part) -> None:
    """Raise for the first of the caller's rows that has no answer."""
    scored = part.scored
    if not scored.failed:
        return
    for index, row in enumerate(part.rows):
        if row not in scored.failed:
            continue
        if row in scored.refused:
            raise RefusedError(f"rows[{index}]: {scored.failed[row]}")
        if scored.arm_of[row] == NOBODY and not scored.arms:
            raise UnanswerableError(f"{model} has no model in effect yet")
        if scored.arm_of[row] == NOBODY:
            raise RefusedError(f"rows[{index}]: no model was in effect at its event time")
        raise FailedError(f"row {index}: {scored.failed[row]}")
