"""Requests at a fixed rate, whatever becomes of them: an open loop, in a process of its own.

Each request's id carries the time at which it was meant to be sent, so that a late sender or a full
buffer counts as latency and is not left out. Arguments: broker, topic, events per second, seconds.
Prints how late the sender itself was, as JSON.
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
"""Of the sender: Kafka's default of 5 ms is for throughput."""
EVENT_TIME = "2026-01-02T00:00:00+00:00"
START_SECONDS = 0.2


def intended_ns(request_id: str) -> int:
    """Return the Unix time at which a request was meant to be sent."""
    return int(request_id.rpartition("-")[2])


def main() -> None:
    """Send, then say how late."""
    broker, topic, rate, seconds = sys.argv[1:]
    lateness_ms = send(broker, topic, float(rate), float(seconds))
    late = {f"p{share}_ms": float(np.percentile(lateness_ms, share)) for share in (50, 99)}
    print(json.dumps(late))


def send(broker: str, topic: str, rate: float, seconds: float) -> list[float]:
    """Send at this rate; return by how many ms each request was handed to the client too late."""
    options = {"bootstrap.servers": broker, "linger.ms": LINGER_MS, "queue.buffering.max.messages": 2_000_000}
    producer = Producer(options)
    producer.list_topics(topic, timeout=10)
    gc.disable()
    wanted = int(rate * seconds)
    start_ns = time.time_ns() + int(START_SECONDS * 1e9)
    lateness_ms: list[float] = []
    while len(lateness_ms) < wanted:
        now_ns = time.time_ns()
        due = min(wanted, max(0, int((now_ns - start_ns) * rate / 1e9) + 1))  # the first one at once
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
