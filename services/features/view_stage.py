"""The second stage: reads the internal topic of one view and writes its rows."""

from collections.abc import Mapping, Sequence

from aiokafka import ConsumerRecord

from services.features.catch_up import OpenReader
from services.features.decoder import SourceDecoder, source_of
from services.features.generations import Generations
from services.features.row_store import RowStore, StateLostError, WriteConflictError
from services.features.source_stage import GENERATION_HEADER
from services.features.stage import FeatureStage, count_invalid, public_watermark, send_letters, split_defects
from services.features.view_partition import ViewPartition
from services.features.view_progress import ALL_PARTITIONS, ProgressUpdate, ViewPosition, ViewProgress
from services.features.view_writer import ViewWriter
from services.runtime.times import now_ms
from services.runtime.watermarks import NEVER
from streams import topics
from streams.producer import BatchProducer


class ViewStage(FeatureStage):
    """Reads the internal topic of a view whose entity is not the message key of its source."""

    prefix = "view"

    def __init__(
        self,
        decoder: SourceDecoder,
        writer: ViewWriter,
        store: RowStore,
        producer: BatchProducer,
        generations: Generations,
        open_reader: OpenReader,
    ) -> None:
        """Take the view's writer and the decoder of its source."""
        super().__init__(topics.repartition(writer.view), [writer], store, generations, open_reader)
        self._decoder = decoder
        self._writer = writer
        self._producer = producer
        self._other_generations: set[bytes | None] = set()

    async def process(
        self,
        partition: int,
        records: Sequence[ConsumerRecord],
        next_offset: int,
        views: Sequence[ViewPartition],
        *,
        send_dead_letters: bool,
        defects: Mapping[int, str],
    ) -> list[ProgressUpdate]:
        """Decode and write; ignore records that were forwarded for another generation."""
        if not views:  # every record was valid when it was forwarded
            return []
        (view,) = views
        position = view.position
        sound, letters = split_defects(records, defects, views)
        current = await self._of_generation(position, sound)
        before_ms = position.progress.watermarks_ms.get(ALL_PARTITIONS, NEVER)
        await self._decoder.learn_schemas(current)
        decoded = self._decoder.decode_forwarded(current, before_ms, now_ms())
        letters += decoded.dead_letters
        count_invalid(views, letters)
        if send_dead_letters:
            await send_letters(self._producer, letters)
        await self._writer.write(partition, position, [event for _, event in decoded.events])
        reached_ms = decoded.watermark_ms
        published = public_watermark(self._writer.view, reached_ms, self._decoder.source.lateness_ms)
        after = ViewProgress(next_offset, {ALL_PARTITIONS: reached_ms})
        return [ProgressUpdate(position, after, partition, published)]

    def report_removed(self, view: ViewPartition, records: int) -> None:
        """Raise `StateLostError` if records of this generation are missing; ignore earlier generations."""
        if view.known_progress.stored:
            raise StateLostError(
                view.view, f"retention deleted {records} forwarded records before they were read"
            )

    async def _of_generation(
        self, position: ViewPosition, records: Sequence[ConsumerRecord]
    ) -> list[ConsumerRecord]:
        """Return the records of this generation; if others appear, check that it is still the current one."""
        expected = b"%d" % position.generation
        numbers = [_generation(record) for record in records]
        others = set(numbers) - {expected}
        if others - self._other_generations:
            await self.generations.check()
            if self.generations.current(position.view).number != position.generation:
                raise WriteConflictError(position.view, "a new generation has begun")
            self._other_generations = others
        # Keep a record that has neither header: it becomes a dead letter.
        return [
            record
            for record, number in zip(records, numbers, strict=True)
            if number == expected or (number is None and source_of(record.headers) is None)
        ]


def _generation(record: ConsumerRecord) -> bytes | None:
    for name, value in record.headers:
        if name == GENERATION_HEADER:
            number: bytes = value
            return number
    return None
