"""Sends requests at a fixed rate, independent of the responses: an open loop, in a separate process.

The id of each request contains its scheduled send time, so that a late sender or a full buffer counts as
latency. Arguments: broker, topic, events per second, seconds. Prints the lateness of the sender as JSON.
"""

import gc
import json
import sys
import time

import numpy as np
from confluent_kafka import Producer

from bench.scoring_job.installation import PARTITIONS, USERS

PAUSE_SECONDS = 0.0005
LINGER_MS = 1
"""Linger time of the sender; Kafka's default of 5 ms is for throughput."""
EVENT_TIME = "2026-01-02T00:00:00+00:00"
START_SECONDS = 0.2


def scheduled_ns(request_id: str) -> int:
    """Return the Unix time at which a request was scheduled."""
    return int(request_id.rpartition("-")[2])


def main() -> None:
    """Send, then print the lateness."""
    broker, topic, rate, seconds = sys.argv[1:]
    lateness_ms = send(broker, topic, float(rate), float(seconds))
    late = {f"p{share}_ms": float(np.percentile(lateness_ms, share)) for share in (50, 99)}
    print(json.dumps(late))


def send(broker: str, topic: str, rate: float, seconds: float) -> list[float]:
    """Send at this rate; return the lateness in ms with which each request was passed to the client."""
    options = {"bootstrap.servers": broker, "linger.ms": LINGER_MS, "queue.buffering.max.messages": 2_000_000}
    producer = Producer(options)
    producer.list_topics(topic, timeout=10)
    gc.disable()
    wanted = int(rate * seconds)
    start_ns = time.time_ns() + int(START_SECONDS * 1e9)
    lateness_ms: list[float] = []
    while len(lateness_ms) < wanted:
        now_ns = time.time_ns()
        due = min(wanted, max(0, int((now_ns - start_ns) * rate / 1e9) + 1))  # the first one immediately
        for number in range(len(lateness_ms), due):
            sent_ns = start_ns + int(number / rate * 1e9)
            user = f"user-{number * 7919 % USERS}"
            value = f'{{"request_id":"{number}-{sent_ns}","event_time":"{EVENT_TIME}","user_id":"{user}"}}'
            producer.produce(topic, value, user, partition=number % PARTITIONS)
            lateness_ms.append((now_ns - sent_ns) / 1e6)
        producer.poll(0)
        time.sleep(PAUSE_SECONDS)
    producer.flush(30)
    return lateness_ms


if __name__ == "__main__":
    main()
