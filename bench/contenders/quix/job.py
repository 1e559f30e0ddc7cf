"""A Quix Streams application: ``apply`` reads the user's hash from Redis and scores, for each event.

Arguments: broker, Redis URL, model file, input topic, output topic.
"""

import pickle
import sys
import tempfile
from typing import Any

import numpy as np
import redis
from quixstreams import Application

from bench.contenders.feast_rows import FIELDS, key_of, row_of


def main() -> None:
    """Run until stopped."""
    broker, redis_url, model_file, source, sink = sys.argv[1:]
    with open(model_file, "rb") as file:  # noqa: PTH123  # a script
        model = pickle.load(file)
    store = redis.Redis.from_url(redis_url)

    def score(request: dict[str, Any]) -> dict[str, Any]:
        row = row_of(store.hmget(key_of(request["user_id"]), FIELDS))  # type: ignore[arg-type]  # accepts bytes, too
        score = float(model.predict_proba(np.array([row]))[0, 1])
        return {
            "prediction_id": request["request_id"],
            "model": "propensity",
            "version": 1,
            "features": row,
            "score": score,
            "prediction": int(score >= 0.5),
        }

    app = Application(
        broker_address=broker,
        consumer_group=f"quix-{sink}",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        state_dir=tempfile.mkdtemp(),
        loglevel="WARNING",
    )
    requests = app.topic(source, value_deserializer="json")
    predictions = app.topic(sink, value_serializer="json")
    app.dataframe(requests).apply(score).to_topic(predictions)
    app.run()


if __name__ == "__main__":
    main()
