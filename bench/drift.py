"""Drift detectors: false alarms on unchanged streams, detection delays on changed ones, and speed.

Driftline's detectors get ranks as the drift process computes them: against a finite reference, in 64 frozen
bins. River's detectors get the same ranks. Delays are compared at an equal measured run length only. An
"always" baseline raises an alarm every 100 rows, a "never" baseline none; a useful detector beats both.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from bench import drift_peers, drift_windows, report
from bench import drift_streams as streams
from bench.drift_streams import Ranks
from bench.report import Figures
from services.drift.binning import statistics
from services.drift.binning.bin_counts import BinCounts
from services.drift.detectors.e_detector import EDetector
from services.drift.detectors.protocol import Detector
from services.drift.detectors.river_detectors import RiverDetector
from services.monitoring import reference
from services.runtime.declaration import Detector as Name

REPLICATES = 200
PATIENCE_ROWS = 2000
"""Alarm budget: one false alarm in this many rows, for all features together."""
STREAMS_AT_ONCE = 2000
RUN_ROWS = 20_000
"""Mean rows between false alarms at which delays are compared."""
CALM_ROWS, SHIFTED_ROWS = 1000, 3000
DELAY_REPLICATES = 40
FEATURES, ROWS = 50, 100_000
LONG_ROWS = (100_000, 1_000_000, 10_000_000)
ALWAYS_ROWS = 100


def main() -> None:
    """Run all measures and report."""
    measures: dict[str, Mapping[str, Figures]] = {}
    measures |= dict(_false_alarms())
    measures |= dict(_relations())
    shifted = {
        shift: [make(CALM_ROWS, SHIFTED_ROWS, seed) for seed in range(DELAY_REPLICATES)]
        for shift, make in streams.SHIFTS.items()
    }
    false_alarms, delays = drift_peers.measure(RUN_ROWS, CALM_ROWS, shifted)
    measures["nothing changes: tools by window, at their own thresholds"] = false_alarms
    measures |= {name: found | delays[name] for name, found in _delays(shifted)}
    measures["50 features x 100 k rows"] = _speed()
    measures["one feature, by rows"] = _growth()
    notes = (
        f"false alarms in {REPLICATES} runs of {PATIENCE_ROWS} rows, one allowed per run; "
        f"median delay in rows after {CALM_ROWS} unchanged rows, at a run length of at least {RUN_ROWS}"
    )
    windows, ratios = drift_windows.measure()
    report.write_measures("drift", measures | windows, ratios, notes)


# -- nothing changes -------------------------------------------------------------------------------


def _false_alarms() -> Iterator[tuple[str, dict[str, Figures]]]:
    for features, rows in ((1, PATIENCE_ROWS), (50, PATIENCE_ROWS), (500, PATIENCE_ROWS // 4)):
        yield (
            f"nothing changes: {features} features, budget 1 in {rows:,} rows",
            {
                f"e-detectors, reference of {known:,} rows": _alarms(features, known, rows, rows)
                for known in (50, 200, 2000)
            },
        )
    yield (
        "nothing changes: 1 feature, 20,000 rows, budget 1 in 200,000",
        {
            "e-detectors, reference of 2,000 rows": _alarms(1, 2000, 200_000, 20_000),
            "the same, with the reference treated as exact": _alarms(1, 2000, 200_000, 20_000, learn=False),
        },
    )
    yield (
        "nothing changes: 10 features, values correlated within blocks of 64 rows",
        {
            "e-detectors, design effect of 40 blocks": _alarms_of_blocks(10, tempered=True),
            "e-detectors, values treated as independent": _alarms_of_blocks(10, tempered=False),
        },
    )
    yield (
        f"nothing changes: 10 features, autoregression of {streams.AUTOREGRESSION}",
        {
            "e-detectors, design effect of 40 blocks of 64 rows": _alarms_of_correlated(10, alike=True),
            "e-detectors, values treated as independent": _alarms_of_correlated(10, alike=False),
        },
    )


def _alarms(features: int, known: int, patience: int, rows: int, *, learn: bool = True) -> Figures:
    """Count alarms; replicates are parallel streams of one detector."""
    with_any = alarms = 0
    at_once = max(STREAMS_AT_ONCE // features, 1)
    for start in range(0, REPLICATES, at_once):
        replicates = min(at_once, REPLICATES - start)
        ranks = streams.calm_ranks(replicates * features, known, rows, seed=start, learn=learn)
        changes = EDetector(replicates * features, patience * features).update(ranks, np.arange(rows))
        alarms += len(changes)
        with_any += len({change.stream // features for change in changes})
    return _counted(alarms, with_any, rows / patience * REPLICATES)


def _alarms_of_blocks(features: int, *, tempered: bool) -> Figures:
    alarms = with_any = 0
    for replicate in range(REPLICATES):
        ranks, effects = streams.blocked_ranks(features, blocks_known=40, rows=PATIENCE_ROWS, seed=replicate)
        detector = EDetector(features, PATIENCE_ROWS * features, effects if tempered else None)
        changes = detector.update(ranks, np.arange(PATIENCE_ROWS))
        alarms += len(changes)
        with_any += bool(changes)
    return _counted(alarms, with_any, REPLICATES)


def _alarms_of_correlated(features: int, *, alike: bool) -> Figures:
    alarms = with_any = 0
    for replicate in range(REPLICATES):
        ranks, effects = streams.correlated_ranks(features, PATIENCE_ROWS, replicate, alike=alike)
        changes = EDetector(features, PATIENCE_ROWS * features, effects).update(
            ranks, np.arange(PATIENCE_ROWS)
        )
        alarms += len(changes)
        with_any += bool(changes)
    return _counted(alarms, with_any, REPLICATES)


def _relations() -> Iterator[tuple[str, dict[str, Figures]]]:
    """Measure the pair detector; all pairs are one stream, and the features themselves do not change."""
    yield (
        f"no pair of features changes, budget 1 in {PATIENCE_ROWS:,} rows",
        {
            f"all pairs of {features} features, reference of {known:,} rows": _alarms_of_pairs(
                features, known
            )
            for features, known in ((2, 200), (10, 200), (10, 2000), (50, 2000))
        },
    )
    yield (
        "the correlation of two of 10 features changes",
        {
            f"correlation {before} to {after}": _delay_of_pairs(before, after)
            for before, after in ((0.8, -0.8), (0.5, 0.0), (0.0, 0.5), (0.0, 0.2))
        },
    )


def _alarms_of_pairs(features: int, known: int) -> Figures:
    alarms = with_any = 0
    for replicate in range(REPLICATES):
        random = np.random.default_rng(replicate)
        make = functools.partial(streams.related, features=features, correlation=0.5, random=random)
        detector, scores_of = streams.pair_detector(make(known), PATIENCE_ROWS)
        changes = detector.update(scores_of(make(PATIENCE_ROWS)), np.arange(PATIENCE_ROWS))
        alarms += len(changes)
        with_any += bool(changes)
    return _counted(alarms, with_any, REPLICATES)


def _delay_of_pairs(before: float, after: float) -> Figures:
    """Measure the delay with eleven streams that share the budget: ten features and their pairs."""
    runs = []
    for seed in range(DELAY_REPLICATES):
        random = np.random.default_rng(seed)
        known, calm = (streams.related(rows, 10, before, random) for rows in (2000, CALM_ROWS))
        values = np.concatenate([calm, streams.related(SHIFTED_ROWS, 10, after, random)])
        detector, scores_of = streams.pair_detector(known, 11 * RUN_ROWS)
        runs.append([row for row, _ in detector.update(scores_of(values), np.arange(len(values)))])
    return _delay(runs, RUN_ROWS)


def _counted(alarms: int, with_any: int, allowed: float) -> Figures:
    return {
        "false_alarms": alarms,
        "allowed": allowed,
        "share_of_budget": alarms / allowed,
        "runs_with_any_share": with_any / REPLICATES,
    }


# -- something changes -----------------------------------------------------------------------------


def _delays(shifted: Mapping[str, Sequence[streams.Stream]]) -> Iterator[tuple[str, dict[str, Figures]]]:
    calm = streams.uniform_ranks(10, 2 * RUN_ROWS, seed=1)
    makers = {name: _calibrated(candidates, calm) for name, candidates in _contenders().items()}
    for shift, of_shift in shifted.items():
        found: dict[str, Figures] = {}
        runs = [stream.ranks for stream in of_shift]
        for name, (make, run_rows) in makers.items():
            found[name] = _delay([_alarm_rows(make(), ranks) for ranks in runs], run_rows)
        for name, rows in (("always (every 100 rows)", ALWAYS_ROWS), ("never", 0)):
            alarms = list(range(rows, CALM_ROWS + SHIFTED_ROWS, rows)) if rows else []
            found[name] = _delay([alarms] * DELAY_REPLICATES, rows)
        yield f"{shift}", found


def _contenders() -> dict[str, list[Callable[[], Detector]]]:
    """Return the candidates of each detector, from the most to the least sensitive."""
    return {
        "driftline": [functools.partial(EDetector, 1, rows) for rows in (2e3, 5e3, 1e4, 2e4)],
        "river ADWIN": [_river("adwin", delta=delta) for delta in (0.9, 0.5, 0.2, 0.05, 0.01, 0.002)],
        "river Page-Hinkley": [_river("page_hinkley", threshold=at) for at in (5, 10, 15, 20, 30, 50)],
        "river HDDM-A, above the median or not": [
            _river("hddm_a", drift_confidence=at, two_sided_test=True)
            for at in (1e-3, 1e-4, 1e-5, 1e-6, 1e-8)
        ],
    }


def _river(name: Name, **options: float) -> Callable[[], Detector]:
    return functools.partial(RiverDetector, name, 1, options)


def _calibrated(
    candidates: list[Callable[[], Detector]], calm: Ranks
) -> tuple[Callable[[], Detector], float]:
    """Return the most sensitive candidate that reaches the run length, and its measured run length."""
    for make in candidates:
        alarms, rows = 0, 0
        for stream in calm.T:
            alarms += len(_alarm_rows(make(), stream))
            rows += len(stream)
            if alarms > 2 * calm.size / RUN_ROWS:
                break
        if rows >= RUN_ROWS * alarms:
            return make, rows / max(alarms, 1)
    return candidates[-1], rows / max(alarms, 1)


def _alarm_rows(detector: Detector, ranks: Ranks) -> list[int]:
    changes = detector.update(ranks.reshape(-1, 1), np.arange(len(ranks)))
    return [change.detected_at_ms for change in changes]


def _delay(runs: list[list[int]], run_rows: float) -> Figures:
    delays = [min((row - CALM_ROWS for row in rows if row >= CALM_ROWS), default=None) for rows in runs]
    found = [delay for delay in delays if delay is not None]
    figures = {
        "missed_share": 1 - len(found) / len(runs),
        "false_alarms": sum(row < CALM_ROWS for rows in runs for row in rows) / len(runs),
    }
    if found:
        figures["delay_rows"] = float(np.median(found))
    if run_rows:
        figures["run_rows"] = run_rows
    return figures


# -- speed ----------------------------------------------------------------------------------------


def _speed() -> dict[str, Figures]:
    """Measure 500 rows at once, as columns of numbers, as in the drift process."""
    random = np.random.default_rng(1)
    known, seen = random.normal(size=(10_000, FEATURES)), random.normal(size=(ROWS, FEATURES))
    features = [BinCounts(reference.of_numbers(f"f{index}", known[:, index])) for index in range(FEATURES)]
    started = time.process_time()
    for start in range(0, ROWS, 500):
        for feature, column in zip(features, seen[start : start + 500].T, strict=True):
            feature.add(column.tolist())
    counted = time.process_time()
    for feature in features:
        statistics.population_stability_index(feature.reference, feature.counts)
        statistics.kolmogorov_smirnov(feature.reference[:-1], feature.counts[:-1])
    compared = time.process_time()
    monitor = streams.Monitor(known)
    watch_started = time.process_time()
    for start in range(0, ROWS, 500):
        monitor.update(seen[start : start + 500], start)
    watched = time.process_time()
    return {
        "bin counts and statistics of the window": {
            "rows_per_second": ROWS / (compared - started),
            "statistics_seconds": compared - counted,
        },
        "the same, and e-detectors on each row": {
            "rows_per_second": ROWS / (compared - started + watched - watch_started),
            "state_mib": monitor.state_bytes / 2**20,
        },
    }


def _growth() -> dict[str, Figures]:
    monitor = streams.Monitor(np.random.default_rng(1).normal(size=(10_000, 1)))
    random, done = np.random.default_rng(2), 0
    figures: dict[str, Figures] = {}
    for rows in LONG_ROWS:
        started = time.process_time()
        done_before = done
        while done < rows:
            size = min(10_000, rows - done)
            monitor.update(random.normal(size=(size, 1)), done)
            done += size
        seconds = time.process_time() - started
        figures[f"{rows:,} rows"] = {
            "rows_per_second": (rows - done_before) / seconds,
            "state_kib": monitor.state_bytes / 2**10,
        }
    return figures
