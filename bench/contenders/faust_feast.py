"""A Faust agent that calls Feast's ``get_online_features`` for each event, as both documentations show.

Arguments: broker, Feast repository, model file, input topic, output topic.
"""

import pickle
import sys
import tempfile

import faust
from faust.types import StreamT
from feast import FeatureStore

NAMES = [f"f{number}" for number in range(10)]


class Request(faust.Record, serializer="json"):
    """A request."""

    request_id: str
    event_time: str
    user_id: str


def build(broker: str, repository: str, model_file: str, source: str, sink: str) -> faust.App:
    """Return the app."""
    with open(model_file, "rb") as file:  # noqa: PTH123  # a script
        model = pickle.load(file)
    store = FeatureStore(repo_path=repository)
    service = store.get_feature_service("profile")
    app = faust.App(
        f"faust-{sink}",
        broker=f"kafka://{broker}",
        store="memory://",
        datadir=tempfile.mkdtemp(),
        topic_disable_leader=True,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        autodiscover=False,
    )
    requests = app.topic(source, value_type=Request)
    predictions = app.topic(sink, value_serializer="json")

    @app.agent(requests)
    async def score(stream: StreamT[Request]) -> None:
        async for request in stream:
            served = store.get_online_features(service, [{"user_id": request.user_id}]).to_dict()
            row = [served[name][0] for name in NAMES]
            score = float(model.predict_proba([row])[0, 1])
            await predictions.send(
                value={
                    "prediction_id": request.request_id,
                    "model": "propensity",
                    "version": 1,
                    "features": row,
                    "score": score,
                    "prediction": int(score >= 0.5),
                }
            )

    return app


if __name__ == "__main__":
    application = build(*sys.argv[1:])
    sys.argv = ["faust", "worker", "-l", "warn"]
    application.main()
