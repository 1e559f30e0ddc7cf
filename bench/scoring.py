"""The scoring job: Driftline against three other implementations, on the same servers and events.

The job: a JSON request names a user; ten features of that user are read from the online store (Feast's
layout on Valkey), a logistic regression scores them, and a JSON prediction is written to a topic with four
partitions. Driftline runs its real scoring process, with validation, dead letters, metrics, commits and the
whole prediction record. Rates are computed from the broker's append times of the predictions, from the first
one on, so that no contender's start-up counts.
"""

import dataclasses
import pickle
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bench import environments, processes, report
from bench.scoring_job import installation, prediction_times
from bench.scoring_job.installation import JOB, MODEL, PARTITIONS, REQUESTS
from bench.scoring_job.prediction_times import PredictionTimes
from services.runtime.settings import Settings
from streams.topics import predictions

REQUESTS_FEW = "bench.requests-few"
"""Holds the first requests of each round, for contenders that would take minutes for all of them."""
EVENTS, EVENTS_FEW = 200_000, 5000
ROUNDS = 2
RUN_SECONDS_MAX = 120
OURS = "driftline"


@dataclasses.dataclass(frozen=True)
class Contender:
    """One implementation of the job, which runs as a process."""

    name: str
    command: list[str]
    source: str
    sink: str
    events: int
    """Per round."""


def main() -> None:
    """Run all contenders and report."""
    with installation.installed([*map(_sink, ("faust_feast", "quix", "confluent_loop")), _sink(OURS)]) as (
        settings,
        estimator,
    ):
        model_file = settings.home / "model.pickle"
        model_file.write_bytes(pickle.dumps(estimator))
        rates = _measure(settings, _contenders(settings, model_file))
    ratios = {name: rates[OURS] / rate for name, rate in rates.items() if name != OURS}
    notes = f"10 Feast features, logistic regression, {PARTITIONS} partitions"
    report.write("scoring", rates, ratios, "events/s", notes)


def _measure(settings: Settings, contenders: list[Contender]) -> dict[str, float]:
    installation.create_topics(settings, [REQUESTS_FEW])
    rates: dict[str, float] = {}
    scores: dict[str, dict[str, float]] = {}
    for number in range(ROUNDS):
        for topic, events in ((REQUESTS, EVENTS), (REQUESTS_FEW, EVENTS_FEW)):
            installation.fill(settings, topic, events, first=number * EVENTS)
        for contender in contenders:
            predicted = _run(settings, contender, number)
            rates[contender.name] = max(predicted.rate, rates.get(contender.name, 0.0))
            scores.setdefault(contender.name, {}).update(predicted.scores)
            print(f"round {number + 1}: {contender.name} {predicted.rate:,.0f} events/s", flush=True)
    _compare(scores, {contender.name: contender.events * ROUNDS for contender in contenders})
    return rates


def _sink(name: str) -> str:
    return predictions(MODEL) if name == OURS else f"bench.predictions-{name}"


def _contenders(settings: Settings, model_file: Path) -> list[Contender]:
    run = [sys.executable, "-m"]
    repository, store, model = str(JOB / "feature_repo"), settings.redis_url, str(model_file)

    def other(name: str, command: list[str], *arguments: str, few: bool) -> Contender:
        source, events = (REQUESTS_FEW, EVENTS_FEW) if few else (REQUESTS, EVENTS)
        started = [*command, settings.broker, *arguments, source, _sink(name)]
        return Contender(name, started, source, _sink(name), events)

    quix = [environments.python_of("quix"), "-m", "bench.contenders.quix.job"]
    return [
        other("faust_feast", [*run, "bench.contenders.faust_feast"], repository, model, few=True),
        other("quix", quix, store, model, few=True),
        other("confluent_loop", [*run, "bench.contenders.confluent_loop"], store, model, few=False),
        Contender(OURS, [*run, "services.operations.cli", "scoring"], REQUESTS, _sink(OURS), EVENTS),
    ]


def _run(settings: Settings, contender: Contender, number: int) -> PredictionTimes:
    log_file = settings.home / f"{contender.name}.log"
    wanted = contender.events * (number + 1)
    with processes.running(contender.command, log_file) as process:
        deadline = time.monotonic() + RUN_SECONDS_MAX
        while prediction_times.count(settings, contender.sink) < wanted:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"bench: {contender.name} did not finish:\n{log_file.read_text()[-3000:]}")
            time.sleep(0.2)
    return prediction_times.read(settings, contender.sink, skip=contender.events * number, wanted=wanted)


def _compare(scores: Mapping[str, Mapping[str, float]], wanted: Mapping[str, int]) -> None:
    """Exit unless every contender has written the same predictions."""
    ours = scores[OURS]
    for name, theirs in scores.items():
        if len(theirs) != wanted[name]:
            sys.exit(f"bench: {name} made {len(theirs)} of {wanted[name]} predictions")
        wrong = sum(1 for request, score in theirs.items() if abs(score - ours[request]) > 1e-12)
        if wrong:
            sys.exit(f"bench: {name} and driftline differ on {wrong} requests")


if __name__ == "__main__":
    main()
