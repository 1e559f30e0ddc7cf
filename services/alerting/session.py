"""One Kafka session of alerting: reads notifications, then events, until Kafka fails or the process ends."""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition

from services.alerting import alerts, destinations, notification_log, webhooks
from services.alerting.alert_state import AlertState, Delivery
from services.alerting.delivery import SendingError, send
from services.alerting.messages import message
from services.alerting.report_files import ReportWriter
from services.model_registry import model_change
from services.runtime import kafka_consumers, metrics
from services.runtime.declaration import HOUR_MS, ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.event_clock import EventClock
from services.runtime.kafka_outbox import Outbox
from services.runtime.quarantine import Quarantine
from services.runtime.recreated_topics import RecreatedTopics
from services.runtime.settings import Settings
from services.runtime.times import now_ms
from services.runtime.topic_creation import ensure_topics
from streams import defects, records, topics
from streams.json_decoder import InvalidRecordError
from streams.producer import Record
from streams.records import Notified, Silence

POLL_MS = 200
CLOSE_MS = 1000
TIDY_SECONDS = 10.0
FINISH_SECONDS_MAX = 3.0
"""Maximum wait for messages in flight when the process ends; messages accepted later are sent again."""
NOTIFICATIONS = TopicPartition(topics.ALERTS.name, 0)
MODELS = TopicPartition(topics.MODELS.name, 0)
EVENTS = (TopicPartition(topics.DRIFT.name, 0), TopicPartition(topics.RETRAINING.name, 0))
TOPICS = tuple(each.topic for each in (NOTIFICATIONS, MODELS, *EVENTS))

_log = structlog.get_logger()
_decode_drift = records.decoder_of(records.DriftRecord).decode
_decode_retraining = records.decoder_of(records.RetrainingRecord).decode


@contextlib.contextmanager
def opened(
    settings: Settings, folder: DeclarationFolder, quarantine: Quarantine, stopping: threading.Event
) -> Iterator["AlertingSession"]:
    """Connect, read notifications and open alerts, and disconnect at the end of the block."""
    quarantine.declare(folder.valid, folder.faults, time.monotonic())
    declarations = dict(folder.valid)
    urls = destinations.load(settings)
    for declaration in declarations.values():
        _log.info("alerting.routes", routes=destinations.summary(declaration, urls))
    with contextlib.ExitStack() as stack:
        ensure_topics(settings, {})
        consumer = kafka_consumers.connect(settings, "alerting")
        stack.callback(consumer.close, timeout_ms=CLOSE_MS)
        outbox = Outbox("alerting", settings.kafka_options(), stopping)
        stack.callback(outbox.close)
        reports = ReportWriter(settings, declarations)
        stack.callback(reports.close)
        session = AlertingSession(settings, declarations, consumer, outbox, urls, reports)
        session.catch_up()
        yield session


class AlertingSession:
    """Reads records, sends due messages, and stores the notifications."""

    def __init__(
        self,
        settings: Settings,
        declarations: Mapping[str, ModelDeclaration],
        consumer: KafkaConsumer,
        outbox: Outbox,
        urls: Mapping[str, str],
        reports: ReportWriter,
    ) -> None:
        """Take connected clients; nothing is read before `catch_up`."""
        age_ms_max = math.inf if settings.alert_replays else settings.alert_age_hours_max * HOUR_MS
        routed = {
            name: one.alerts.model_copy(
                update={"routes": tuple(route for route in one.alerts.routes if route.to in urls)}
            )
            for name, one in declarations.items()
        }
        self._reports = reports
        self._clock = EventClock("alerting", settings.event_ahead_seconds_max)
        hooks = [name for name, url in urls.items() if webhooks.is_webhook(url)]
        self._state = AlertState(routed, age_ms_max=age_ms_max, webhooks=hooks)
        self._age_ms_max = age_ms_max
        self._consumer = consumer
        self._recreated = RecreatedTopics(consumer)
        self._outbox = outbox
        self._urls = urls
        self._dashboard_url = settings.dashboard_url
        self._models = tuple(declarations)
        self._champions: dict[str, int | None] = {}
        self._has_read_log = False
        self._in_flight = 0
        self._finished: queue.SimpleQueue[tuple[Delivery, bool]] = queue.SimpleQueue()
        self._tidied_seconds = 0.0
        self._handlers: Mapping[str, Callable[[Any], None]] = {
            topics.ALERTS.name: self._add_alert_record,
            topics.DRIFT.name: self._add_drift,
            topics.RETRAINING.name: self._add_retraining,
            topics.MODELS.name: self._add_model_change,
        }

    def catch_up(self) -> None:
        """Read notifications and records up to the present end; nothing is sent before that."""
        for topic in TOPICS:  # first: one that is recreated later has another id
            kafka_consumers.partition_count(self._consumer, topic)  # which asks for its metadata
            self._recreated.note(topic)
        self._consumer.assign([NOTIFICATIONS])
        self._consumer.seek_to_beginning(NOTIFICATIONS)
        for each in kafka_consumers.read_to_end(self._consumer, [NOTIFICATIONS]):
            self._add(each)
        self._has_read_log = True
        position = self._consumer.position(NOTIFICATIONS)
        partitions = [NOTIFICATIONS, MODELS, *EVENTS]
        self._consumer.assign(partitions)
        self._consumer.seek(NOTIFICATIONS, position)
        self._consumer.seek_to_beginning(MODELS)
        for partition, offset in self._starts().items():
            self._consumer.seek(partition, offset)
        for each in kafka_consumers.read_to_end(self._consumer, partitions):
            self._add(each)

    def step(self) -> None:
        """Process new records, store finished notifications, send due messages.

        Raises `TopicRecreatedError` if a topic is another one now.
        """
        self._recreated.check(TOPICS)
        for batch in self._consumer.poll(timeout_ms=POLL_MS).values():
            for each in batch:
                self._add(each)
        self._store_finished()
        for delivery in self._state.due(now_ms()):
            self._in_flight += 1
            threading.Thread(target=self._send, args=(delivery,), daemon=True).start()
        if time.monotonic() - self._tidied_seconds >= TIDY_SECONDS:
            self._tidy()
            self._tidied_seconds = time.monotonic()

    def keep_all(self) -> None:
        """Wait up to `FINISH_SECONDS_MAX` for messages in flight, and store the accepted ones."""
        deadline = time.monotonic() + FINISH_SECONDS_MAX
        while self._in_flight and time.monotonic() < deadline:
            self._store_finished(wait_seconds=0.1)

    # -- input -----------------------------------------------------------------------------------

    def _starts(self) -> dict[TopicPartition, int]:
        """Return for each partition the offset of the first record that is not too old to be sent."""
        if math.isinf(self._age_ms_max):
            return dict(self._consumer.beginning_offsets(list(EVENTS)))
        since_ms = max(0, now_ms() - round(self._age_ms_max))
        found = self._consumer.offsets_for_times(dict.fromkeys(EVENTS, since_ms))
        ends = self._consumer.end_offsets(list(EVENTS))
        return {
            partition: found[partition].offset if found.get(partition) else ends[partition]
            for partition in EVENTS
        }

    def _add(self, each: Any) -> None:
        try:
            self._handlers[each.topic](each)
        except Exception as error:  # noqa: BLE001  # whatever it is, only this record is at fault
            metrics.RECORDS_SKIPPED.labels("alerting", each.topic).inc()
            reason = str(error) if isinstance(error, InvalidRecordError) else defects.reason_of(error)
            _log.warning("alerting.record_skipped", topic=each.topic, offset=each.offset, error=reason)

    def _add_alert_record(self, each: Any) -> None:
        if each.value is None:
            if silence_id := notification_log.silence_id_of(each.key or b""):
                self._state.silences.pop(silence_id, None)
            return
        match notification_log.decoded(each.value):
            case Silence() as silence:
                self._state.silences[silence.silence_id] = silence
            case Notified() as notified:
                if not self._has_read_log:  # later ones were written by this process
                    self._state.add_notified(notified)
            case None:
                metrics.RECORDS_SKIPPED.labels("alerting", each.topic).inc()
                _log.warning("alerting.record_skipped", topic=each.topic, offset=each.offset)

    def _add_drift(self, each: Any) -> None:
        if each.value is None:
            return
        record = _decode_drift(each.value)
        is_alarm = isinstance(record, records.DriftAlarm)
        # Drift reports what has happened: a window that ends years ahead would end all alarms before it.
        self._clock.check(record.detected_at_ms if is_alarm else record.window_end_ms, each, now_ms())
        if is_alarm:
            self._state.add_alert(alerts.of_alarm(record, each.timestamp), now_ms())
            return
        if isinstance(record, records.DriftReport) and record.alarms_standing is not None:
            self._state.resolve_missing(record.model, record.window_end_ms, record.alarms_standing)
        if each.timestamp - record.window_end_ms <= self._age_ms_max:
            self._reports.add(record.model, record.window_start_ms)

    def _add_retraining(self, each: Any) -> None:
        if each.value is not None:
            alert = alerts.of_retraining(_decode_retraining(each.value), each.timestamp)
            self._state.add_alert(alert, now_ms())

    def _add_model_change(self, each: Any) -> None:
        change = model_change.decode(each.value)
        if change is None:
            return
        if alert := alerts.of_rollback(self._champions.get(change.model), change, each.timestamp):
            self._state.add_alert(alert, now_ms())
        self._champions[change.model] = alerts.champion_of(change)

    # -- output ----------------------------------------------------------------------------------

    def _send(self, delivery: Delivery) -> None:
        """Send one message; each runs in a separate thread, so that a hanging destination delays no other."""
        accepted = False
        try:
            self._deliver(delivery)
            accepted = True
        except SendingError:
            pass  # `_observe` logs it
        except Exception as error:  # noqa: BLE001  # 170 services: whatever fails, the delivery must be settled
            # Without its text, which may contain the URL.
            _log.error(
                "alerting.service_failed", destination=delivery.destination, error=type(error).__name__
            )
        finally:  # whatever ends the thread
            self._finished.put((delivery, accepted))

    def _deliver(self, delivery: Delivery) -> None:
        url = self._urls[delivery.destination]
        if webhooks.is_webhook(url):
            for part in delivery.parts:  # there is one
                webhooks.send(url, webhooks.key_of(part), webhooks.body_of(part))
        else:
            send(url, message(delivery, self._dashboard_url))

    def _store_finished(self, wait_seconds: float = 0.0) -> None:
        """Store the notifications of finished deliveries before anything else is sent."""
        notified: list[Notified] = []
        while self._in_flight:
            try:
                delivery, accepted = self._finished.get(block=wait_seconds > 0, timeout=wait_seconds or None)
            except queue.Empty:
                break
            self._in_flight -= 1
            settle = self._state.delivered if accepted else self._state.failed
            notified += settle(delivery, now_ms())
            _observe(delivery, accepted=accepted)
        self._write([(notification_log.key_of(each), records.encode(each), []) for each in notified])

    def _tidy(self) -> None:
        """Drop expired alerts and silences, on the topic as well."""
        at_ms = now_ms()
        gone = [notification_log.notified_key(*key) for key in self._state.forgotten(at_ms)]
        gone += [notification_log.silence_key(silence_id) for silence_id in self._state.expired(at_ms)]
        self._write([(key, None, []) for key in gone])
        metrics.ALERTS_SILENCED.set(self._state.silenced(at_ms))
        metrics.ALERTS_STALE.set(self._state.stale_total)
        for model in self._models:
            metrics.ALERTS_STANDING.labels(model).set(self._state.open_count(model))

    def _write(self, batch: Sequence[Record]) -> None:
        if batch:
            self._outbox.write_what_fits({(NOTIFICATIONS.topic, NOTIFICATIONS.partition): batch})


def _observe(delivery: Delivery, *, accepted: bool) -> None:
    result = "delivered" if accepted else "failed"
    metrics.NOTIFICATIONS.labels(delivery.destination, result).inc()
    if not accepted:
        _log.warning(
            "alerting.not_delivered",
            destination=delivery.destination,
            model=delivery.model,
            alerts=len(delivery.parts),
            hint="'driftline alerts test DESTINATION' shows the reason",
        )
