"""A hand-written loop on confluent-kafka: consume a micro-batch, read Redis in one pipeline, score, produce.

It has no validation, dead letters, metrics or retries: a typical first version.
Arguments: broker, Redis URL, model file, input topic, output topic.
"""

import pickle
import sys

import numpy as np
import orjson
import redis
from confluent_kafka import Consumer, Producer

from bench.contenders.feast_rows import FIELDS, key_of, row_of

BATCH = 2000


def main() -> None:
    """Loop until killed."""
    broker, redis_url, model_file, source, sink = sys.argv[1:]
    with open(model_file, "rb") as file:  # noqa: PTH123  # a script
        model = pickle.load(file)
    store = redis.Redis.from_url(redis_url)
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": f"confluent-{sink}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([source])
    producer = Producer(
        {"bootstrap.servers": broker, "acks": "all", "linger.ms": 5, "queue.buffering.max.messages": 1000000}
    )
    while True:
        messages = [message for message in consumer.consume(BATCH, 0.2) if not message.error()]
        if not messages:
            continue
        requests = [orjson.loads(message.value() or b"") for message in messages]
        pipeline = store.pipeline(transaction=False)
        for request in requests:
            pipeline.hmget(key_of(request["user_id"]), FIELDS)  # type: ignore[arg-type]  # accepts bytes, too
        rows = [row_of(values) for values in pipeline.execute()]
        scores = model.predict_proba(np.array(rows))[:, 1].tolist()
        for message, request, row, score in zip(messages, requests, rows, scores, strict=True):
            prediction = {
                "prediction_id": request["request_id"],
                "model": "propensity",
                "version": 1,
                "features": row,
                "score": score,
                "prediction": int(score >= 0.5),
            }
            producer.produce(
                sink, orjson.dumps(prediction), message.key(), partition=message.partition() or 0
            )
        producer.flush()
        consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
