"""An inference pipeline whose surroundings are replaced by the simplest thing that keeps the contract."""

import asyncio
import threading
import time

import numpy as np
from prometheus_client import REGISTRY

from services.feature_store.served_features import ServedFeatures
from services.model_registry.contract import LoadedVersion
from services.model_registry.golden_batch import GoldenBatch
from services.runtime.declaration import ModelDeclaration
from services.scoring import prediction_records
from services.scoring.arm_router import ArmRouter
from services.scoring.call_timing import CallTiming
from services.scoring.inference_pipeline import InferencePipeline
from services.scoring.model_cache import ModelCache
from services.scoring.model_calls import ModelCalls
from services.scoring.model_versions import ModelVersions
from services.scoring.online_predictor import OnlinePredictor
from services.scoring.outputs import PredictionTask
from services.scoring.request_features import RequestFeatures
from services.scoring.thread_limits import ThreadLimits
from streams import records
from streams.records import Arm
from tests.waiting import LIVENESS_SECONDS

SECONDS_MAX = LIVENESS_SECONDS
"""Maximum time that a test waits for something that must happen."""
CHAMPION = Arm(name="champion", version=1, weight=10_000)
DECODE_PREDICTION = records.decoder_of(records.Prediction).decode
SHADOW = Arm(name="frozen", version=2, weight=0, shadow=True)


def declaration(**changes):
    """Return the declaration of a binary model, with these changes."""
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


class HalfOfX:
    """Returns x / 2 + offset; raises for the x given as poison."""

    size_bytes = 1000

    def __init__(self, poison=None, offset=0.0):
        self.poison = poison
        self.offset = offset

    def predict(self, columns):
        if self.poison is not None and (columns["x"] == self.poison).any():
            raise ValueError("poison")
        return columns["x"] / 2 + self.offset


def proven(model):
    """Return a loaded version with a golden batch of one row, whose x is 1."""
    columns = {"x": np.ones(1)}
    return LoadedVersion(model, GoldenBatch(columns, columns["x"] / 2 + model.offset))


class GatedModel(HalfOfX):
    """Predicts after its release; keeps the number of rows of each call."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = []
        self._called = threading.Semaphore(0)
        self._gate = threading.Event()

    def predict(self, columns):
        self.calls.append(len(columns["x"]))
        self._called.release()
        assert self._gate.wait(SECONDS_MAX), "the model was never released"
        return super().predict(columns)

    def release(self):
        self._gate.set()

    def close(self):
        self._gate.clear()

    async def next_call(self):
        """Wait until a call has reached the model."""
        assert await asyncio.to_thread(self._called.acquire, timeout=SECONDS_MAX)


class ManualClock:
    """A clock in seconds that only a test advances."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds

    def advance(self, seconds):
        self.seconds += seconds


class TimedModel(HalfOfX):
    """Takes this time by a clock, and keeps the threads on which it was called."""

    def __init__(self, clock=None, seconds=0.0, **options):
        super().__init__(**options)
        self.threads = []
        self._clock = clock
        self._seconds = seconds

    def predict(self, columns):
        self.threads.append(threading.current_thread())
        if self._clock is not None:
            self._clock.advance(self._seconds)
        return super().predict(columns)


class Store:
    """Serves the length of the entity as the feature f; the entity None has no feature."""

    async def wait_for(self, event_time_ms, timeout_seconds):
        return True

    async def read(self, entity_columns, event_times_ms, events):
        lengths = [np.nan if who is None else float(len(who)) for who in entity_columns["who"]]
        lag = np.zeros(len(event_times_ms), np.int64)
        return ServedFeatures(columns={"f": np.array(lengths)}, lag_ms=lag, beyond_retention=0)


class Producer:
    """Keeps the written records by topic; with a gate, writes wait for it."""

    def __init__(self, gate=None):
        self.written = {}
        self.is_writing = asyncio.Event()
        self._gate = gate

    async def send_by_key(self, topic, batch):
        self.is_writing.set()
        if self._gate is not None:
            await self._gate.wait()
        self.written.setdefault(topic, []).extend(batch)


def model_versions(load, cache=None, clock=time.monotonic):
    """Return the versions of a model; ``load`` returns a model, or one with its golden batch."""

    def loaded(name, version):
        found = load(name, version)
        return found if isinstance(found, LoadedVersion) else LoadedVersion(found)

    return ModelVersions("m", loaded, cache or ModelCache(1 << 20), ThreadLimits(2), clock)


def request_features(store=None, **changes):
    return RequestFeatures(declaration(**changes), ["who"], ["f"], store or Store())


def pipeline(models=None, arms=(CHAMPION,), *, store=None, new_timing=CallTiming, **changes):
    models = models if models is not None else {1: HalfOfX(), 2: HalfOfX(offset=0.1)}
    versions = model_versions(lambda _name, version: models[version])
    versions.router = ArmRouter("m", list(arms))
    versions.loaded.keep(versions.router.versions)
    declared = declaration(**changes)
    threads = ThreadLimits(declared.limits.threads)
    calls = ModelCalls(PredictionTask(declared), threads, new_timing)
    return InferencePipeline(declared, request_features(store, **changes), versions, calls)


def predictor(producer=None, *, cloud_events=False, **options):
    return OnlinePredictor(pipeline(**options), producer or Producer(), cloud_events=cloud_events)


def event(subject, number, x=1.0, who="abc"):
    """Return a decoded request of a pipeline."""
    return subject.decoder.convert({"id": f"r{number}", "at": "2013-07-01T16:05:00Z", "x": x, "who": who})


def decoded_predictions(subject, batch, shadow_scores, offsets=None, rows=None):
    """Return the prediction records of a batch from partition 3 as they are read from Kafka."""
    encoded = prediction_records.encode_predictions(
        batch,
        shadow_scores,
        subject.task,
        "m",
        partition=3,
        offsets=offsets or list(range(10, 10 + len(batch.ids))),
        now_ms=99,
        rows=rows,
    )
    return [DECODE_PREDICTION(value) for value in encoded.values]


async def settle():
    """Run the event loop until every callback that is ready has run."""
    for _ in range(20):
        await asyncio.sleep(0)


def sample(name, **labels):
    """Return the value of a metric's sample; 0 if it was never set."""
    return REGISTRY.get_sample_value(name, labels) or 0.0
