"""Writes records in stages; each stage is acknowledged by the broker before the next one begins."""

import asyncio
import concurrent.futures
import itertools
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from services.runtime import metrics
from streams import back_off
from streams.outages import is_outage
from streams.producer import BatchProducer, Record, RecordTooLargeError

RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.1, 5.0
"""Pause before the same stage is written again; doubled at each error."""
STOP_SECONDS_MAX = 3.0
"""Maximum time of a write after the process was asked to stop."""
_CHECK_SECONDS = 0.5

_log = structlog.get_logger()
_Result = TypeVar("_Result")

Stage = Mapping[tuple[str, int], Sequence[Record]]
"""Records by topic and partition."""


class StoppedError(RuntimeError):
    """The process was asked to stop while the broker did not respond: do nothing further."""


class Outbox:
    """A batch producer in a separate event loop, for use from a blocking main loop.

    kafka-python's producer costs about 28 us per record, `BatchProducer` about 2 us.
    """

    def __init__(self, service: str, kafka_options: Mapping[str, Any], stopping: threading.Event) -> None:
        """Start the thread of the loop; the first stage connects. Retries are counted for the service."""
        self._service = service
        self._options = kafka_options
        self._stopping = stopping
        self._producer: BatchProducer | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="outbox", daemon=True)
        self._thread.start()

    def write(self, stage: Stage) -> None:
        """Write all records of a stage and wait until all are acknowledged; retry while the broker is down.

        A retry repeats the whole stage, so each partition gets the same records again: readers drop such
        repeats.

        Raises:
            StoppedError: The process has to stop first.
            RecordTooLargeError: A topic does not take a record; those of other partitions are written. Write
                the stage again without that record.
            KafkaError: The broker refuses a record for another reason, which waiting does not resolve.
        """
        wanted = {place: batch for place, batch in stage.items() if batch}
        if not wanted:
            return
        for failures in itertools.count(1):
            delay_seconds = back_off.pause_seconds(failures, RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
            try:
                self._run(lambda: self._send(wanted))
            except Exception as error:
                if not is_outage(error):
                    raise
                metrics.SLICE_RETRIES.labels(self._service).inc()
                _log.warning("outbox.write_failed", error=repr(error), retry_seconds=delay_seconds)
            else:
                return
            if self._stopping.wait(delay_seconds):
                raise StoppedError("stopped while Kafka did not acknowledge; a restart repeats this step")

    def write_what_fits(self, stage: Stage) -> None:
        """Write as `write`; leave out each record that its topic does not take, and count and log it."""
        left = {place: list(batch) for place, batch in stage.items()}
        while True:
            try:
                self.write(left)
            except RecordTooLargeError as error:
                metrics.RECORDS_TOO_LARGE.labels(self._service, error.topic).inc()
                _log.error("outbox.record_too_large", topic=error.topic, error=str(error))
                if not any(each is error.record for batch in left.values() for each in batch):
                    raise
                left = {
                    place: [each for each in batch if each is not error.record]
                    for place, batch in left.items()
                }
            else:
                return

    def close(self) -> None:
        """Disconnect and end the thread."""
        self._run(self._disconnect)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS_MAX)

    def _run(self, work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """Run in the loop and wait; after a stop request, wait for at most `STOP_SECONDS_MAX`."""
        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        patience_seconds = STOP_SECONDS_MAX
        while True:
            try:
                return future.result(_CHECK_SECONDS)
            except concurrent.futures.TimeoutError:
                if future.done():
                    raise
            if self._stopping.is_set():
                patience_seconds -= _CHECK_SECONDS
            if patience_seconds <= 0:
                future.cancel()
                raise StoppedError("stopped while Kafka did not respond; a restart repeats this step")

    async def _send(self, stage: Stage) -> None:
        if self._producer is None:
            producer = BatchProducer(self._options)
            await producer.start()
            self._producer = producer
        send = self._producer.send
        sends = (send(topic, number, batch) for (topic, number), batch in stage.items())
        # Wait for all, also if one fails: the next stage begins when nothing of this one is on its way.
        errors = [each for each in await asyncio.gather(*sends, return_exceptions=True) if each is not None]
        if errors:
            raise min(errors, key=is_outage)  # a defect first: a retry would only meet it again

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop(STOP_SECONDS_MAX / 2)
