"""What a report says about the arms of a window, compared with the same computed from all rows."""

import math
import random

import msgspec
import numpy as np
import pytest

from services.monitoring.arm_comparison import BLOCKS
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, MINUTE_MS, EngineFeeder

ROWS = 300


def log_loss(label, score):
    return -math.log(score if label else 1 - score)


def play(feeder, hour=0):
    """Play an hour in which every third row is the challenger's.

    Return arm, label, score, the shadow's score and the minute of the label, of each row.
    """
    chance, rows = random.Random(hour), []
    feeder.engine.add_model(msgspec.structs.replace(scenario.model_changed(2), arms=[]))
    for number in range(ROWS):
        minute = 60 * hour + number * 50 / ROWS
        score, quiet = chance.uniform(0.2, 0.8), chance.uniform(0.2, 0.8)
        is_new, is_fallback = number % 3 == 2, number % 30 == 1
        label = float(chance.random() < score)
        other = {"version": 2, "arm": "new", "score": 1 - score} if is_new else {"score": score}
        fallback = {"fallback_from": "new", "fallback_version": 2} if is_fallback else {}
        feeder.predict(
            1000 * hour + number, minute, shadow_scores={"quiet": quiet},
            shadow_versions={"quiet": 3, "broken": 4}, shadow_call_us={"quiet": 700},
            call_us=5000 if number == 1 else 1000, **other, **fallback,
        )  # fmt: skip
        rows.append(("new" if is_new else "champion", label, other["score"], quiet, minute + 5))
    for number, (_, label, _, _, minute) in enumerate(rows):
        feeder.label(1000 * hour + number, minute, label)
    return rows


def arms_of(report):
    return {each.arm: each for each in report.arms}


def block_of(minute):
    time_ms = round(minute * MINUTE_MS) % HOUR_MS
    return time_ms * BLOCKS // HOUR_MS


def standard_error(residuals, own):
    """Return the standard error of a mean whose rows have these residuals, with blocks as clusters."""
    by_block = np.zeros(BLOCKS)
    for value, block in residuals:
        by_block[block] += value
    blocks = len({block for _, block in own})
    return math.sqrt(blocks / (blocks - 1) * float(by_block @ by_block))


def test_paired_and_unpaired_differences_are_those_of_all_rows():
    feeder = EngineFeeder()
    rows = play(feeder)
    (report,) = scenario.reports(feeder.until(60))
    found = arms_of(report)

    pairs = [
        (log_loss(label, quiet) - log_loss(label, score), block_of(minute))
        for arm, label, score, quiet, minute in rows
        if arm == "champion"
    ]
    mean = sum(value for value, _ in pairs) / len(pairs)
    paired = found["quiet"].difference
    assert (paired.is_paired, paired.labels, paired.champion) == (True, 200, 1)
    assert paired.mean == pytest.approx(mean)
    clustered = standard_error([((value - mean) / len(pairs), block) for value, block in pairs], pairs)
    alone = np.std([value for value, _ in pairs], ddof=1) / math.sqrt(len(pairs))
    assert paired.standard_error == pytest.approx(max(clustered, alone))
    assert paired.low < mean < paired.high

    losses = {
        name: [
            (log_loss(label, score), block_of(minute)) for arm, label, score, _, minute in rows if arm == name
        ]
        for name in ("champion", "new")
    }
    means = {name: sum(value for value, _ in each) / len(each) for name, each in losses.items()}
    unpaired = found["new"].difference
    assert (unpaired.is_paired, unpaired.labels, unpaired.champion_labels) == (False, 100, 200)
    assert unpaired.mean == pytest.approx(means["new"] - means["champion"])
    residuals = [
        (sign * (value - means[name]) / len(losses[name]), block)
        for name, sign in (("new", 1), ("champion", -1))
        for value, block in losses[name]
    ]
    independent = sum(np.var([value for value, _ in each], ddof=1) / len(each) for each in losses.values())
    clustered = standard_error(residuals, losses["new"])
    assert unpaired.standard_error == pytest.approx(max(clustered, math.sqrt(independent)))


def test_requests_that_a_version_did_not_answer_are_counted_by_version():
    feeder = EngineFeeder()
    play(feeder)
    (report,) = scenario.reports(feeder.until(60))
    counts = {(each.arm, each.version, each.shadow): (each.predictions, each.failed) for each in report.arms}
    assert counts == {
        ("champion", 1, False): (200, 0), ("new", 2, False): (100, 10),
        ("quiet", 3, True): (300, 0), ("broken", 4, True): (0, 300),
    }  # fmt: skip
    found = arms_of(report)
    assert found["broken"].difference is None
    assert found["champion"].call_times.counts == {"1024": 199, "5793": 1}
    assert found["quiet"].call_times.p50_ms == 0.724
    assert found["broken"].call_times is None


def test_running_differences_become_narrower_with_each_window():
    feeder = EngineFeeder()
    widths = []
    for hour in range(3):
        play(feeder, hour)
        (report,) = scenario.reports(feeder.until(60 * (hour + 1)))
        running = arms_of(report)["quiet"].difference
        assert running.running_labels == 200 * (hour + 1)
        assert running.running_low < running.running < running.running_high
        widths.append(running.running_high - running.running_low)
    assert widths[0] > widths[1] > widths[2]


def test_the_differences_of_a_state_continue():
    whole, first = EngineFeeder(), EngineFeeder()
    for hour in range(2):
        play(whole, hour)
        expected = scenario.reports(whole.until(60 * (hour + 1)))
    play(first)
    first.until(60)
    second = EngineFeeder()
    second.engine = scenario.new_engine(scenario.declaration(), state=first.engine.state())
    second.offsets = first.offsets
    play(second, 1)
    assert scenario.reports(second.until(120)) == expected
