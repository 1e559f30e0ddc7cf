"""From a stream that changes to a new champion that answers: drift, retraining, rollout, for each task."""

import functools
import time
from pathlib import Path

import numpy as np

from services.model_registry import ledger, ledger_drafts
from services.model_registry.traffic_split import CHAMPION
from services.retraining import retrain_command
from services.rollout import rollout_arms
from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from streams import records, topics
from streams.records import RetrainingFinished, RetrainingRequested, RolloutEnded, RolloutStepped
from tests.rollout_world import HOUR_MS, START_MS
from tests.shifting_world import REQUESTS_AN_HOUR, ShiftingModel, ShiftingWorld
from tests.waiting import LIVENESS_SECONDS, until

FIRST_DAYS, CALM_DAYS = 3, 3


def champion_of(model: ShiftingModel) -> int | None:
    """Return the version that answers all requests; None if there is no such one."""
    latest = model.latest
    version = None if latest is None else rollout_arms.champion_of(latest.arms)
    if latest is None or rollout_arms.described(latest.arms) != f"{CHAMPION} {version} 10000":
        return None
    return version


def test_changed_stream_leads_to_a_new_champion_that_answers(
    settings: Settings, unique_name: str, tmp_path: Path
) -> None:
    world = ShiftingWorld(settings, unique_name)
    with world.running(tmp_path) as processes:
        world.hours(24 * FIRST_DAYS, processes)
        for each in world.models:
            asked_ms = START_MS + each.asked * HOUR_MS // REQUESTS_AN_HOUR
            request = retrain_command.request_of(each.name, "the first", asked_ms)
            retrain_command.publish(world.settings, request)
        until(lambda: all(each.latest for each in world.models), "the first versions serve")
        world.hours(24 * CALM_DAYS, processes)
        for each in world.models:
            each.has_shifted = True
        deadline = time.monotonic() + LIVENESS_SECONDS
        while not all((champion_of(each) or 0) > 1 for each in world.models):
            assert time.monotonic() < deadline, [each.latest for each in world.models]
            world.hours(2, processes)
            until(functools.partial(are_trained, world), "all requests have their result")
        world.hours(6, processes)
        for each in world.models:
            until(functools.partial(agrees, each), "aliases and ledger follow")
    for each in world.models:
        check(each)
    world.close()


def are_trained(world: ShiftingWorld) -> bool:
    """Tell whether no retraining goes on: traffic waits for it, so that a slow machine changes nothing."""
    decode = records.decoder_of(records.RetrainingRecord).decode
    messages = kafka_consumers.read_topic(world.settings, "tests", topics.RETRAINING.name)
    found = [decode(message.value) for message in messages if message.value is not None]
    names = {each.name for each in world.models}
    finished = {each.request_id for each in found if isinstance(each, RetrainingFinished)}
    requested = {
        each.request_id for each in found if isinstance(each, RetrainingRequested) and each.model in names
    }
    return requested <= finished


def agrees(model: ShiftingModel) -> bool:
    latest = model.latest
    assert latest is not None
    entries = [entry for entry in ledger.read(model.settings) if entry.model == model.name]
    return model.aliases[CHAMPION] == champion_of(model) and not ledger_drafts.unrecorded(
        entries, {model.name: latest}
    )


def check(model: ShiftingModel) -> None:
    retrainings = model.of_topic(topics.RETRAINING.name, records.RetrainingRecord)
    requests = [each for each in retrainings if isinstance(each, RetrainingRequested)]
    results = [each for each in retrainings if isinstance(each, RetrainingFinished)]
    assert {each.trigger for each in requests} == {"manual", "drift"}
    rollouts = model.of_topic(topics.ROLLOUTS.name, records.RolloutRecord)
    first, ended = (each for each in rollouts if isinstance(each, RolloutEnded))
    assert (first.version, first.outcome, ended.outcome) == (1, "promoted", "promoted")
    assert [each.share for each in rollouts if isinstance(each, RolloutStepped)] == [0, 5000]
    assert [each.result for each in results if each.version == ended.version] == ["passed"]
    assert champion_of(model) == ended.version
    last_day = model.predictions[-60:]
    assert {(each.arm, each.version) for each in last_day} == {(CHAMPION, ended.version)}
    outcomes = model.of_topic(topics.outcomes(model.name), records.Outcome)
    champion = [each for each in outcomes if each.arm == CHAMPION and each.loss is not None]
    old, new = ([each.loss for each in champion if each.version == version] for version in (1, ended.version))
    assert np.mean(new) < np.mean(old[-100:]) / 2
