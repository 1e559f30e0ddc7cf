"""Calls and rows are counted by arm and version, and only arms that are listed have series."""

import asyncio

import msgspec
import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from services.runtime import metrics
from services.scoring.arm_metrics import ROW_RESULTS, ArmMetrics
from streams.records import Arm
from tests.unit.scoring.fakes import CHAMPION, SHADOW, GatedModel, HalfOfX, event, pipeline, proven, sample

NEW = Arm(name="new", version=3, weight=10_000)
LABELS = {"model": "m", "arm": "new", "version": "3"}
SHADOWED = {"model": "m", "arm": "frozen", "version": "2"}


def rows(labels):
    return {result: sample("driftline_arm_rows_total", **labels, result=result) for result in ROW_RESULTS}


def counted(labels, models, arms, xs, **limits):
    """Score a batch and return the rows of an arm that were counted, without zeros."""

    async def run():
        subject = pipeline(models=models, arms=arms, limits=limits)
        _, shadows = await subject.score([event(subject, n, x=x) for n, x in enumerate(xs)])
        await shadows.scores(wait_for_all=not limits)
        for model in models.values():
            if isinstance(model, GatedModel):
                model.release()

    before = rows(labels)
    asyncio.run(run())
    return {
        result: count - before[result] for result, count in rows(labels).items() if count > before[result]
    }


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (HalfOfX(), {"answered": 3}),
        (HalfOfX(poison=7.0), {"answered": 2, "failed": 1}),
        (proven(HalfOfX(poison=1.0)), {"unavailable": 3}),
    ],
)
def test_rows_are_counted_by_what_became_of_them(model, expected):
    calls = sample("driftline_model_call_seconds_count", **LABELS)
    assert counted(LABELS, {1: HalfOfX(), 3: model}, [NEW], (1.0, 7.0, 2.0)) == expected
    assert sample("driftline_model_call_seconds_count", **LABELS) == calls + ("unavailable" not in expected)


def test_rows_of_a_version_that_does_not_load_are_those_that_the_champion_answers():
    owner = msgspec.structs.replace(CHAMPION, weight=0)
    answered = {"model": "m", "arm": "champion", "version": "1"}
    assert counted(answered, {1: HalfOfX()}, [owner, NEW], (1.0, 2.0)) == {"answered": 2}
    assert counted(LABELS, {1: HalfOfX()}, [owner, NEW], (1.0, 2.0)) == {"unavailable": 2}


def test_rows_of_shadows_are_counted_too():
    models = {1: HalfOfX(), 2: HalfOfX(poison=7.0)}
    assert counted(SHADOWED, models, [CHAMPION, SHADOW], (1.0, 7.0)) == {"answered": 1, "failed": 1}
    assert counted(SHADOWED, {1: HalfOfX()}, [CHAMPION, SHADOW], (1.0, 7.0)) == {"unavailable": 2}
    late = {1: HalfOfX(), 2: GatedModel()}
    assert counted(SHADOWED, late, [CHAMPION, SHADOW], (1.0,), shadow_wait_ms=0) == {"late": 1}


def test_an_arm_that_has_ended_has_no_series():
    subject = ArmMetrics("ended")
    first, second = (Arm(name="champion", version=version, weight=10_000) for version in (1, 2))
    subject.show([first])
    subject.count_call(first, 0.002, {"answered": 4})
    subject.show([second])
    subject.count_call(first, 0.002, {"answered": 4})  # of a batch that was in progress
    subject.count_call(second, 0.002, {"answered": 4})
    subject.show([second])
    series = [
        each.labels["version"]
        for family in REGISTRY.collect()
        for each in family.samples
        if each.labels.get("model") == "ended" and not each.name.endswith("_created")
    ]
    assert set(series) == {"2"}
    assert sample("driftline_model_info", model="ended", arm="champion", version="2") == 1


def test_only_metrics_by_arm_have_a_version_because_only_their_series_are_removed():
    declared = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    by_version = [each._labelnames for each in declared if "version" in each._labelnames]  # no public name
    assert by_version
    assert all("arm" in labels for labels in by_version)
