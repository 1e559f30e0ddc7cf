"""One model as HTTP callers use it: its limits, its batches, its log. Independent of HTTP itself."""

import asyncio
import contextlib
import dataclasses
import operator
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from services.runtime import metrics, times
from services.runtime.event_clock import AheadError, EventClock
from services.scoring.arm_router import NO_ARM, UnknownVersionError
from services.scoring.batcher import Batcher, BatchPart
from services.scoring.explanations.explainer import Explainer
from services.scoring.explanations.shap_values import Explanation
from services.scoring.inference_pipeline import InferencePipeline
from services.scoring.outputs import PredictionColumns
from services.scoring.prediction_log import AnsweredBatch, KeyedProducer, PredictionLog
from services.scoring.prediction_records import count_predictions
from services.scoring.scored_batch import ScoredBatch
from streams import codec, records, registered_codec

if TYPE_CHECKING:
    from streams.producer import Record


LOAD_SECONDS_MAX = 60.0
"""Maximum time to load versions, which the first caller after a start may have to wait for."""


ROWS_NAMED_MAX = 10
"""Maximum rows without a prediction that the error of a request names."""


class OverloadError(Exception):
    """The model's maximum number of requests is in progress."""


class NoModelError(RuntimeError):
    """No prediction can be made now: no version of the model is in effect."""


class RejectedInputError(ValueError):
    """A row or label is rejected: a required feature is missing, or its event time is not allowed."""


class ModelFailedError(RejectedInputError):
    """The model failed on a row that conforms to the declaration, but not on its golden batch."""


@dataclasses.dataclass(frozen=True, slots=True)
class OnlinePredictions:
    """The predictions for n requests, in their order."""

    ids: list[str]
    arms: list[records.Arm]
    columns: PredictionColumns
    batch: AnsweredBatch
    """The batch that the requests were part of, at ``rows``."""
    rows: range
    version: int | None
    """The version that the caller chose; None if the arms' shares did."""


class OnlinePredictor:
    """Predicts within the limits of model.yaml."""

    def __init__(
        self,
        pipeline: InferencePipeline,
        producer: KeyedProducer,
        *,
        cloud_events: bool = False,
        label_encoder: registered_codec.Encoder | None = None,
        clock: EventClock | None = None,
    ) -> None:
        """Take the model and the producer; see `running`. Without an encoder labels are written as JSON."""
        self.name = pipeline.name
        self.declaration = pipeline.declaration
        self.pipeline = pipeline
        self.limits = pipeline.declaration.limits
        self.requests_in_progress = 0
        self._producer = producer
        self._clock = clock or EventClock("scoring")
        label = pipeline.declaration.label
        self.label_decoder = codec.EventDecoder(
            dataclasses.replace(field, nullable=field.nullable and field.name != label.value)
            for field in label.bounded_fields
        )
        """Decodes labels as declared, but the value is required: drift accepts no label without one."""
        self._label_encoder = label_encoder
        self._label_id = operator.attrgetter(label.id)
        self._label_time = operator.attrgetter(label.event_time)
        self._log = PredictionLog(pipeline, producer, cloud_events=cloud_events)
        self._explainer = Explainer(pipeline)
        self._batcher = Batcher(self._score, rows_max=self.limits.rows_max, batches_max=self.limits.threads)
        self._unanswered = metrics.REQUESTS_UNANSWERED.labels(self.name, "rest")
        self.observe_seconds = metrics.PREDICTION_DURATION.labels(self.name, "rest").observe

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Log predictions until the block ends."""
        async with self._log.running():
            yield

    @property
    def versions(self) -> list[int]:
        """The versions that give predictions, in ascending order."""
        return sorted({arm.version for arm in self.pipeline.versions.router.answering})

    def not_ready(self, version: int | None = None) -> str | None:
        """Why no prediction can be made now, or none by one version; None if it can."""
        versions = self.pipeline.versions
        return versions.not_ready if version is None else versions.not_ready_version(version)

    async def load(self) -> None:
        """Load the versions that give predictions; a failure is raised for the callers of that version."""
        loading = (self.pipeline.versions.loaded.get(version) for version in self.versions)
        await asyncio.gather(*loading, return_exceptions=True)

    async def predict(self, events: Sequence[Any], *, version: int | None = None) -> OnlinePredictions:
        """Predict for decoded requests: for all of them, or raise. A caller that gets them calls `log`.

        A ``version`` predicts independently of the arms' shares.

        Raises:
            OverloadError: Raised at once if ``limits.requests_max`` requests are in progress. TimeoutError:
            Raised after ``limits.seconds_max``; `LOAD_SECONDS_MAX` more while versions are loaded.
            NoModelError: No version is in effect. VersionNotLoadedError: Raised at once while a version that
            did not load waits for its next attempt. UnknownVersionError: The version gives no predictions.
            RejectedInputError: A required feature is missing, no version was in effect at a row's event
                time, or that time is in the future.
            ModelFailedError: The model failed on a row.
            VersionNotLoadedError: The version of a row cannot answer now, and the champion cannot either.
        """
        self._check_times("rows", map(self.pipeline.event_time_ms, events))
        try:
            with self._slot():
                if not self.pipeline.versions.are_loaded:
                    await asyncio.wait_for(self.load(), LOAD_SECONDS_MAX)
                async with asyncio.timeout(self.limits.seconds_max):
                    part = await self._submit(events, version)
            _check_predicted(self.name, part.result.scored, part.rows)
        except Exception as error:
            is_fault_of_caller = isinstance(error, RejectedInputError | UnknownVersionError)
            if not is_fault_of_caller or isinstance(error, ModelFailedError):
                self._unanswered.inc(len(events))
            raise
        return self._predictions(part, version)

    def log(self, predictions: OnlinePredictions) -> None:
        """Write predictions to the predictions topic, later; called when their caller gets them.

        Those of a version that the caller chose are not written, because no random assignment chose it.
        """
        if predictions.version is None:
            self._log.add(predictions.batch, predictions.rows)

    async def _submit(self, events: Sequence[Any], version: int | None) -> BatchPart[AnsweredBatch]:
        if version is None:
            return await self._batcher.submit(events)
        batch, _ = await self.pipeline.score(events, version=version)
        return BatchPart(AnsweredBatch(batch), 0, len(events))

    async def explain(self, predictions: OnlinePredictions) -> list[Explanation | None]:
        """Return each feature's contribution to n predictions.

        See `services.scoring.explanations.explainer`.
        """
        part, batch = slice(predictions.rows.start, predictions.rows.stop), predictions.batch.scored
        features = {name: column[part] for name, column in batch.features.items()}
        return await self._explainer.explain(features, predictions.arms, batch.outputs[part])

    async def write_labels(self, labels: Sequence[Any]) -> None:
        """Write decoded labels to the label topic, with the id of their request as key, as all labels.

        Returns when the broker has acknowledged all. After an error or a `TimeoutError` some may have been
        written; all may be sent again, because drift counts a label once.

        Raises:
            OverloadError: See `predict`.
            RejectedInputError: A label is dated in the future.
            SchemaRegistryUnavailableError: The schema registry cannot be reached.
            InvalidRecordError: The registered schema does not allow a label.
        """
        self._check_times("labels", (codec.epoch_ms(self._label_time(label)) for label in labels))
        with self._slot():
            async with asyncio.timeout(self.limits.seconds_max):
                await self._write_labels(labels)

    async def _write_labels(self, labels: Sequence[Any]) -> None:
        encode: Callable[[Any], bytes] = msgspec.json.encode
        if self._label_encoder is not None:
            await asyncio.to_thread(self._label_encoder.prepare)
            encode = self._label_encoder.encode
        headers = [(codec.HTTP_HEADER, b"1")]
        batch: list[Record] = [(self._label_id(label).encode(), encode(label), headers) for label in labels]
        await self._producer.send_by_key(self.declaration.label.topic, batch)

    def _check_times(self, field: str, event_times_ms: Iterable[int]) -> None:
        """Reject event times that consumers would take for the future."""
        now_ms = times.now_ms()
        for index, event_time_ms in enumerate(event_times_ms):
            try:
                self._clock.check_arrival(event_time_ms, now_ms)
            except AheadError as error:
                raise RejectedInputError(f"{field}[{index}]: {error}") from error

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        """Occupy one of the model's ``limits.requests_max`` slots."""
        if self.requests_in_progress >= self.limits.requests_max:
            raise OverloadError(
                "the model's maximum number of requests (limits.requests_max) is in progress; retry"
            )
        self.requests_in_progress += 1
        try:
            yield
        finally:
            self.requests_in_progress -= 1

    async def _score(self, events: Sequence[Any]) -> AnsweredBatch:
        batch, shadows = await self.pipeline.score(events, arm_is_required=True)
        count_predictions(self.name, batch)
        return AnsweredBatch(batch, shadows)

    def _predictions(self, part: BatchPart[AnsweredBatch], version: int | None) -> OnlinePredictions:
        batch, rows = part.result.scored, part.rows
        return OnlinePredictions(
            ids=batch.ids[part.start : part.stop],
            arms=[batch.arm(row) for row in rows],
            columns=self.pipeline.task.predictions(batch.outputs[part.start : part.stop]),
            batch=part.result,
            rows=rows,
            version=version,
        )


def _check_predicted(model: str, batch: ScoredBatch, rows: range) -> None:
    """Raise if some of the caller's rows have no prediction; the message names the first `ROWS_NAMED_MAX`."""
    failed = {index: row for index, row in enumerate(rows) if row in batch.failed} if batch.failed else {}
    if not failed:
        return
    batch.check_available(rows)
    if not batch.arms and not batch.rejected.issuperset(failed.values()):
        raise NoModelError(f"no version of {model} is in effect yet; make one the champion, then retry")
    reasons = [f"rows[{index}]: {_reason(batch, row)}" for index, row in failed.items()]
    if (more := len(reasons) - ROWS_NAMED_MAX) > 0:
        reasons[ROWS_NAMED_MAX:] = [f"and {more} more rows"]
    by_model = any(batch.arm_of[row] != NO_ARM and row not in batch.rejected for row in failed.values())
    raise (ModelFailedError if by_model else RejectedInputError)("; ".join(reasons))


def _reason(batch: ScoredBatch, row: int) -> str:
    if row not in batch.rejected and batch.arm_of[row] == NO_ARM:
        return "no version was in effect at the event time"
    return batch.failed[row]
