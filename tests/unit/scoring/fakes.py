"""A scorer with everything around it replaced by the simplest thing that is true to its contract."""

import threading
import time

import numpy as np

from services.feature_store.served_features import ServedFeatures
from services.runtime.declaration import ModelDeclaration
from services.scoring.arm_routing import Routes
from services.scoring.inference import Scorer
from services.scoring.model_cache import ModelCache, ModelSet
from services.scoring.online_predictor import Endpoint
from services.scoring.thread_limits import Threads
from streams.records import Arm


def declaration(**changes):
    """Declare a binary model, otherwise as said."""
    declared = {
        "name": "m",
        "owner": "o",
        "task": "binary",
        "request": {
            "topic": "requests",
            "id": "id",
            "event_time": "at",
            "schema": {"id": "string", "at": "timestamp", "x": "float", "who": "string?"},
        },
        "features": {"service": "s", "from_request": ["x", "who"], "wait_seconds": 1},
        "label": {
            "topic": "labels",
            "id": "id",
            "event_time": "at",
            "value": "y",
            "positive_above": 0,
            "horizon_hours": 1,
            "schema": {"id": "string", "at": "timestamp", "y": "float"},
        },
    }
    return ModelDeclaration.model_validate(declared | changes)


CHAMPION = Arm(name="champion", version=1, weight=10_000)
SHADOW = Arm(name="frozen", version=2, weight=0, shadow=True)


class HalfOfX:
    """Scores x / 2; refuses the x given as poison."""

    size_bytes = 1000

    def __init__(self, poison=None, offset=0.0):
        self.poison = poison
        self.offset = offset

    def predict(self, columns):
        if self.poison is not None and (columns["x"] == self.poison).any():
            raise ValueError("poison")
        return columns["x"] / 2 + self.offset


class Slow(HalfOfX):
    """Takes its time."""

    def __init__(self, seconds, **options):
        super().__init__(**options)
        self.seconds = seconds

    def predict(self, columns):
        time.sleep(self.seconds)
        return super().predict(columns)


class Held(HalfOfX):
    """Answers when it is let go; counts the rows of each call."""

    def __init__(self, **options):
        super().__init__(**options)
        self.let_go = threading.Event()
        self.calls = []

    def predict(self, columns):
        self.calls.append(len(columns["x"]))
        assert self.let_go.wait(20)
        return super().predict(columns)


class Store:
    """Serves the entity's length as the feature f; None has none."""

    passed = True

    async def wait_for(self, event_time_ms, timeout_seconds):
        return self.passed

    async def read(self, entity_columns, event_times_ms):
        lengths = [np.nan if who is None else float(len(who)) for who in entity_columns["who"]]
        lag = np.zeros(len(event_times_ms), np.int64)
        return ServedFeatures(columns={"f": np.array(lengths)}, lag_ms=lag, beyond_retention=0)


def model_set(load, cache=None):
    return ModelSet("m", load, cache or ModelCache(1 << 20), Threads(2))


def scorer(models=None, arms=(CHAMPION,), **changes):
    models = models if models is not None else {1: HalfOfX(), 2: HalfOfX(offset=0.1)}
    own = model_set(lambda _name, version: models[version])
    own.routes = Routes("m", list(arms))
    return Scorer(declaration(**changes), ["who"], ["f"], Store(), own, Threads(2))


class Producer:
    """Keeps what was written, by topic; ``held`` keeps it waiting."""

    def __init__(self):
        self.written = {}
        self.held = None

    async def send_by_key(self, topic, batch):
        if self.held is not None:
            await self.held.wait()
        self.written.setdefault(topic, []).extend(batch)


def endpoint(producer=None, **options):
    return Endpoint(scorer(**options), producer or Producer())


def event(scorer, number, x=1.0, who="abc"):
    return scorer.decoder.convert({"id": f"r{number}", "at": "2013-07-01T16:05:00Z", "x": x, "who": who})
