"""What bounds one model's HTTP requests: rows, seconds, requests in progress; and which errors they get."""

import asyncio
import time

import pytest
from aiokafka.errors import KafkaError

from services.scoring.arm_router import UnknownVersionError
from services.scoring.load_failures import VersionNotLoadedError
from services.scoring.online_predictor import (
    ModelFailedError,
    NoModelError,
    OverloadError,
    RejectedInputError,
)
from streams import codec
from streams.records import Arm
from tests.unit.scoring.fakes import (
    CHAMPION,
    GatedModel,
    HalfOfX,
    Producer,
    event,
    predictor,
    proven,
    sample,
    settle,
)

REQUIRED = {"service": "s", "from_request": ["x", "who"], "missing": {"reject": ["who"]}}
LATER = Arm(name="champion", version=1, weight=10_000, effective_from_ms=1_400_000_000_000)


def unanswered():
    return sample("driftline_requests_unanswered_total", model="m", channel="rest")


def predict(subject, *events, **options):
    async def run():
        async with subject.running():
            return await subject.predict(list(events), **options)

    return asyncio.run(run())


def test_rows_are_predicted_in_order():
    subject = predictor()
    found = predict(subject, event(subject.pipeline, 1, x=1.2), event(subject.pipeline, 2, x=0.2))
    assert (found.ids, [arm.name for arm in found.arms]) == (["r1", "r2"], ["champion"] * 2)
    assert (found.columns.scores, found.columns.predictions) == ([0.6, 0.1], [1, 0])


@pytest.mark.parametrize(
    ("options", "changes", "kind", "text"),
    [
        ({"arms": []}, {}, NoModelError, "no version of m is in effect yet"),
        ({"arms": [LATER]}, {}, RejectedInputError, r"rows\[0\]: no version was in effect"),
        ({"features": REQUIRED}, {"who": None}, RejectedInputError, r"rows\[0\]: the feature who is missing"),
        (
            {"models": {1: proven(HalfOfX(poison=7.0))}},
            {"x": 7.0},
            ModelFailedError,
            r"rows\[0\]: .*poison",
        ),
        ({"models": {}}, {}, VersionNotLoadedError, "version 1 of m cannot"),
    ],
)
def test_a_row_without_a_prediction_raises_its_reason(options, changes, kind, text):
    subject = predictor(**options)
    with pytest.raises(kind, match=text):
        predict(subject, event(subject.pipeline, 0, **changes))


def test_the_first_row_on_which_the_model_fails_is_named():
    subject = predictor(models={1: HalfOfX(poison=7.0)})
    rows = [event(subject.pipeline, number, x=float(number)) for number in range(6, 9)]
    with pytest.raises(ModelFailedError, match=r"rows\[1\]: the model failed: ValueError\('poison'\)"):
        predict(subject, *rows)


def test_a_poisoned_row_of_a_challenger_is_the_error_of_its_caller_alone():
    arms = [Arm(name="champion", version=1, weight=5000), Arm(name="new", version=2, weight=5000)]
    subject = predictor(models={1: HalfOfX(), 2: proven(HalfOfX(poison=7.0, offset=0.1))}, arms=arms)

    async def run(poisoned=None):
        rows = [event(subject.pipeline, number, x=7.0 if number == poisoned else 0.2) for number in range(10)]
        found = await asyncio.gather(*(subject.predict([row]) for row in rows), return_exceptions=True)
        return ["error" if isinstance(each, BaseException) else each.arms[0].name for each in found]

    arms_of = asyncio.run(run())
    poisoned = arms_of.index("new")
    assert asyncio.run(run(poisoned)) == [*arms_of[:poisoned], "error", *arms_of[poisoned + 1 :]]


def test_the_rows_without_a_prediction_are_named_up_to_a_number():
    """So a caller can leave them out and send the others again."""
    declared = {"service": "s", "from_request": ["x", "who"], "missing": {"reject": ["who"]}}
    subject = predictor(features=declared)
    rows = [event(subject.pipeline, number, who=None if number % 2 else "abc") for number in range(30)]
    with pytest.raises(RejectedInputError) as caught:
        predict(subject, *rows)
    reasons = str(caught.value).split("; ")
    assert [reason.split(":")[0] for reason in reasons[:10]] == [f"rows[{n}]" for n in range(1, 21, 2)]
    assert reasons[10:] == ["and 5 more rows"]


def test_only_failures_that_the_caller_did_not_cause_count_as_unanswered():
    subject, before = predictor(), unanswered()
    with pytest.raises(UnknownVersionError):
        predict(subject, event(subject.pipeline, 0), version=9)
    rejecting = predictor(features=REQUIRED)
    with pytest.raises(RejectedInputError):
        predict(rejecting, event(rejecting.pipeline, 0, who=None))
    assert unanswered() == before
    collecting = predictor(arms=[])
    with pytest.raises(NoModelError):
        predict(collecting, event(collecting.pipeline, 0), event(collecting.pipeline, 1))
    assert unanswered() == before + 2


def test_requests_beyond_the_limit_are_turned_away_at_once():
    async def run():
        model = GatedModel()
        subject = predictor(models={1: model}, limits={"requests_max": 2, "threads": 1})
        requests = [
            asyncio.create_task(subject.predict([event(subject.pipeline, number)])) for number in range(2)
        ]
        await model.next_call()
        assert subject.requests_in_progress == 2
        with pytest.raises(OverloadError):
            await subject.predict([event(subject.pipeline, 3)])
        model.release()
        await asyncio.gather(*requests)
        assert subject.requests_in_progress == 0
        await subject.predict([event(subject.pipeline, 4)])

    asyncio.run(run())


def test_a_prediction_that_takes_too_long_is_given_up():
    async def run():
        model = GatedModel()
        subject = predictor(models={1: model}, limits={"seconds_max": 0.01})
        with pytest.raises(TimeoutError):
            await subject.predict([event(subject.pipeline, 0)])
        model.release()
        await settle()

    asyncio.run(run())


def labels(subject, *seconds_from_now):
    now = time.time()
    return [
        subject.label_decoder.convert({"id": f"r{number}", "at": timestamp(now + seconds), "y": 1.0})
        for number, seconds in enumerate(seconds_from_now)
    ]


def timestamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def test_labels_are_written_by_the_id_of_their_request():
    producer = Producer()
    subject = predictor(producer)
    asyncio.run(subject.write_labels(labels(subject, -60, -30)))
    assert [key for key, _, _ in producer.written["labels"]] == [b"r0", b"r1"]
    assert [headers for _, _, headers in producer.written["labels"]] == [[(codec.HTTP_HEADER, b"1")]] * 2


def test_a_label_of_the_future_is_rejected_and_nothing_is_written():
    producer = Producer()
    subject = predictor(producer)
    with pytest.raises(RejectedInputError, match=r"labels\[1\]: .* s ahead of the clock of this worker"):
        asyncio.run(subject.write_labels(labels(subject, -60, 2 * 86_400)))
    assert producer.written == {}


def test_an_error_of_the_broker_reaches_the_caller_and_frees_the_slot():
    class Failing(Producer):
        async def send_by_key(self, topic, batch):
            raise KafkaError

    subject = predictor(Failing(), arms=[CHAMPION])
    with pytest.raises(KafkaError):
        asyncio.run(subject.write_labels(labels(subject, -60)))
    assert subject.requests_in_progress == 0
