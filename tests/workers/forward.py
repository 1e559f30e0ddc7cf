"""A process on the batch engine for tests, which forwards each record with its source offset.

Arguments: group, source topic, sink topic. Environment: DRIFTLINE_BROKER; FORWARD_FAILURES, the number of
slices that fail after they were written; FORWARD_HANG=1 to never finish a slice; FORWARD_PAUSE_SECONDS, the
duration of each slice.
"""

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from services.runtime import async_process, logs
from services.runtime.settings import Settings
from streams.groups import Group
from streams.producer import BatchProducer
from streams.slices import Slice, SliceObserver

if TYPE_CHECKING:
    from streams.producer import Record


def main() -> None:
    """Forward until stopped."""
    group, source, sink = sys.argv[1:]
    settings = Settings()
    logs.configure_logging("forward", "info")
    failures = int(os.environ.get("FORWARD_FAILURES", "0"))
    in_flight = 0

    def note(size_bytes: int) -> None:
        nonlocal in_flight
        in_flight = max(in_flight, size_bytes)

    producer = BatchProducer(settings.kafka_options())
    member = Group(settings, group, SliceObserver(on_in_flight=note))

    async def forward(slice_: Slice) -> None:
        nonlocal failures
        if os.environ.get("FORWARD_HANG"):
            print("hanging", flush=True)
            await asyncio.sleep(3600)
        await asyncio.sleep(float(os.environ.get("FORWARD_PAUSE_SECONDS", "0")))
        batch: list[Record] = [(r.key, b"%d %d" % (r.partition, r.offset), []) for r in slice_.records]
        await producer.send(sink, slice_.partition, batch)
        if failures:
            failures -= 1
            raise ConnectionError("after the write, before the acknowledgement")
        slice_.ack()

    member.slices([source], forward)
    async_process.run(producer.running(), member.running(), failure=lambda: member.failure)
    print(f"in flight at most {in_flight} bytes", flush=True)


if __name__ == "__main__":
    main()
