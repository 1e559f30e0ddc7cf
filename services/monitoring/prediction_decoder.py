"""Decodes and checks predictions and labels from Kafka, and rejects bad ones with the reason."""

import operator
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Protocol

import msgspec

from services.monitoring.label_values import LabelValues
from services.monitoring.row_sample import RowSample
from services.monitoring.source_ends import UNLIMITED, SourceEnds
from services.runtime.declaration import ModelDeclaration
from services.runtime.event_clock import EventClock
from services.runtime.quarantine import RecordPlace, Rejected
from streams import codec, record_origin, records, schemas
from streams.inputs import LABEL, PREDICTION, PartitionKey, TracedPrediction


class HeartbeatSink(Protocol):
    """Receives heartbeats and rejected records, e.g. `streams.inputs.Inputs`."""

    def add_heartbeat(self, source: PartitionKey, offset: int, watermark_ms: int) -> None:
        """Receive the watermark of a partition: no event up to this time will follow."""

    def reject(self, source: PartitionKey, offset: int, letter: records.DeadLetter | None) -> None:
        """Receive a record that could not be decoded, as a dead letter."""


class PredictionSink(Protocol):
    """Receives decoded predictions and labels."""

    @property
    def inputs(self) -> HeartbeatSink:
        """Receives heartbeats and rejected records."""

    def add_prediction(self, partition: int, offset: int, prediction: records.Prediction) -> None:
        """Receive a prediction; those of a partition come in order."""

    def add_label(self, partition: int, offset: int, label: records.Label) -> None:
        """Receive a label; those of a partition come in order."""


class PredictionDecoder:
    """Decodes the predictions and labels of one model and passes them to a sink."""

    def __init__(
        self,
        service: str,
        declaration: ModelDeclaration,
        sink: PredictionSink,
        registry: schemas.SchemaRegistry | None = None,
        rejected: Rejected = MappingProxyType({}),
        clock: EventClock | None = None,
        sample: RowSample | None = None,
        ends: SourceEnds | None = None,
    ) -> None:
        """Compile the declared schema of the labels; dead letters name the service.

        Args:
            service: The process.
            declaration: The model's.
            sink: Receives what is decoded.
            registry: The schema registry of the label topic, if there is one.
            rejected: Records to reject without decoding them, with the reasons, see `Quarantine.rejected`.
            clock: Tells which records are too far ahead; by default with the default tolerance.
            sample: Passes over predictions and labels of other ids; they only move the event time.
            ends: Tells which source offsets are impossible; by default none beyond those of the partition.

        Raises:
            SchemaError: The labels need a schema registry and there is none. With a registry, `take_labels`
                may raise `SchemaRegistryUnavailableError`.
        """
        label = declaration.label
        self._service = service
        self._model = declaration.name
        self._clock = clock or EventClock(service)
        self._sink = sink
        self._rejected = rejected
        self._sample = sample
        self._ends = ends
        self._decode_head = msgspec.json.Decoder(record_origin.PredictionHead).decode
        self._label_number = LabelValues(declaration).number
        self._decode_prediction = records.decoder_of(records.Prediction).unchecked
        self._decode_label = label.wire_decoder(registry).decode
        self._label_fields = operator.attrgetter(label.id, label.event_time, label.value)

    def take_predictions(self, messages: Sequence[codec.KafkaRecord], now_ms: int) -> None:
        """Decode a slice of one partition of the predictions topic."""
        rejected = self._rejected
        tolerance_ms = self._clock.tolerance_ms
        latest_ms = now_ms + tolerance_ms
        ends = self._ends
        limit = ends.begin_slice(messages[0].partition) if ends is not None and messages else UNLIMITED
        for message in messages:
            value = message.value
            if rejected and self._is_rejected(PREDICTION, message, now_ms):
                continue
            try:
                if value is None:
                    self._add_heartbeat(PREDICTION, message, now_ms)
                    continue
                if self._sample is not None and self._is_passed_over(self._sample, message, value, now_ms):
                    continue
                prediction = self._decode_prediction(value)
                is_of_partition = prediction.source_partition == message.partition
                if not is_of_partition or prediction.source_offset < 0 or prediction.model != self._model:
                    record_origin.check_prediction(prediction, self._model, message.partition)
                if prediction.source_offset >= limit and ends is not None:
                    limit = ends.check(prediction)
                time_ms = prediction.event_time_ms
                if time_ms > latest_ms or time_ms > message.timestamp + tolerance_ms:
                    self._clock.check(time_ms, message, now_ms)
                if message.headers and (trace := codec.trace_headers(message.headers)):
                    prediction = TracedPrediction.of(prediction, trace)
            except Exception as error:  # noqa: BLE001  # of this record alone, or it is raised again
                self._reject(PREDICTION, message, error, now_ms)
                continue
            self._sink.add_prediction(message.partition, message.offset, prediction)

    def take_labels(self, messages: Sequence[codec.KafkaRecord], now_ms: int) -> None:
        """Decode a slice of one partition of the label topic."""
        rejected = self._rejected
        for message in messages:
            if rejected and self._is_rejected(LABEL, message, now_ms):
                continue
            try:
                if message.value is None:
                    self._add_heartbeat(LABEL, message, now_ms)
                    continue
                label = self._label(message, now_ms)
                if self._sample is not None and not self._sample.includes(label.prediction_id):
                    if not label.is_over_http:
                        self._pass_over(LABEL, message, label.event_time_ms)
                    continue
            except Exception as error:  # noqa: BLE001  # as above
                self._reject(LABEL, message, error, now_ms)
                continue
            self._sink.add_label(message.partition, message.offset, label)

    def _is_passed_over(
        self, sample: RowSample, message: codec.KafkaRecord, value: bytes, now_ms: int
    ) -> bool:
        """Pass over a prediction that is not in the sample; return whether it is none of it.

        Raises `InvalidRecordError` as for all predictions.
        """
        head = self._decode_head(value)
        if sample.includes(head.prediction_id):
            return False
        is_over_http = head.source_offset == records.ASKED_OVER_HTTP
        if head.source_partition != message.partition or head.source_offset < 0 or head.model != self._model:
            record_origin.check_prediction(head, self._model, message.partition)
        time_ms, tolerance_ms = head.event_time_ms, self._clock.tolerance_ms
        if time_ms > now_ms + tolerance_ms or time_ms > message.timestamp + tolerance_ms:
            self._clock.check(time_ms, message, now_ms)
        if not is_over_http:  # as for all: such a prediction does not move the time of its stream
            self._pass_over(PREDICTION, message, time_ms)
        return True

    def _pass_over(self, kind: int, message: codec.KafkaRecord, event_time_ms: int) -> None:
        """Let only the time of a record count: those that follow it count at this time or later."""
        key = PartitionKey(kind, message.partition)
        self._sink.inputs.add_heartbeat(key, message.offset, event_time_ms - 1)

    def _label(self, message: codec.KafkaRecord, now_ms: int) -> records.Label:
        identity, event_time, value = self._label_fields(self._decode_label(message.value))
        event_time_ms = codec.epoch_ms(event_time)
        self._clock.check(event_time_ms, message, now_ms)
        return records.Label(
            prediction_id=identity,
            event_time_ms=event_time_ms,
            value=self._label_number(value),
            source_partition=message.partition,
            source_offset=message.offset,
            written_time_ms=message.timestamp,
            is_over_http=any(name == codec.HTTP_HEADER for name, _ in message.headers),
        )

    def _add_heartbeat(self, kind: int, message: codec.KafkaRecord, now_ms: int) -> None:
        watermark_ms = self._clock.watermark_of(message, now_ms)
        if watermark_ms is not None:
            self._sink.inputs.add_heartbeat(
                PartitionKey(kind, message.partition), message.offset, watermark_ms
            )

    def _reject(self, kind: int, message: codec.KafkaRecord, error: Exception, now_ms: int) -> None:
        letter = codec.letter_of(self._service, message, error, now_ms)
        self._sink.inputs.reject(PartitionKey(kind, message.partition), message.offset, letter)

    def _is_rejected(self, kind: int, message: codec.KafkaRecord, now_ms: int) -> bool:
        """Reject a record that was found to be a defect; return whether it is one."""
        reason = self._rejected.get(RecordPlace(message.topic, message.partition, message.offset))
        if reason is None:
            return False
        letter = codec.dead_letter(self._service, message, reason, now_ms, kind="defect")
        self._sink.inputs.reject(PartitionKey(kind, message.partition), message.offset, letter)
        return True


DecoderFor = Callable[[PredictionSink], PredictionDecoder]
"""Makes the decoder of a model that passes to a sink."""
