"""The world of the trial: which weeks of the flights are sent, and with which models."""

from pathlib import Path

import msgspec
import numpy as np

from services.demo import months
from services.demo.playlist import Lane, Playlist
from services.demo.trial import candidates
from services.demo.trial.world import TRIAL
from services.demo.worlds import FLIGHTS
from services.runtime import declaration_file
from services.runtime.declaration import DAY_MS
from services.runtime.settings import Settings

DECLARATION = declaration_file.load_all(Settings().models)[TRIAL.model]


def lane(topic: str, times_ms: list[int]) -> Lane:
    times = np.array(times_ms, dtype=np.int64)
    rows = [{"flight_id": str(number), "arr_delay": 0.0} for number in range(len(times_ms))]
    return Lane(topic, 0, times, times, [(b"UA1", msgspec.json.encode(row), []) for row in rows])


def test_only_the_weeks_of_the_trial_are_sent_with_the_fields_that_are_made_up() -> None:
    asked = [candidates.START_MS - 1, candidates.START_MS, candidates.UNTIL_MS - 1, candidates.UNTIL_MS]
    arrived = [time_ms + DAY_MS for time_ms in asked]
    loaded = Playlist(
        (lane(DECLARATION.request.topic, asked), lane(DECLARATION.label.topic, arrived)),
        DECLARATION.request.topic,
    )
    played = TRIAL.arrange(loaded, DECLARATION)
    (requests,), (labels,) = list(played.requests()), list(played.sources())
    assert requests.event_times_ms.tolist() == asked[1:3]
    assert max(labels.event_times_ms.tolist()) == arrived[2], "no label of a request that is not sent"
    assert all(b"airline_forecast" in (value or b"") for _, value, _ in requests.records)


def test_months_of_the_trial_are_those_of_the_flights_until_its_end() -> None:
    assert TRIAL.calendar.names == ("2013-01", "2013-02")
    assert TRIAL.calendar.month_end_ms("2013-02") == candidates.UNTIL_MS
    assert TRIAL.calendar.scoring_start_ms == months.SCORING_START_MS


def test_models_of_the_trial_are_written_into_the_folder_of_the_demo(tmp_path: Path) -> None:
    given = FLIGHTS.settings(Settings(home=tmp_path))
    written = TRIAL.write_models(given)
    assert written.models.is_relative_to(tmp_path)
    assert candidates.LEAKING_MODEL in declaration_file.load_all(written.models)
    assert FLIGHTS.write_models(given) == given


def test_no_model_learns_online_in_the_trial() -> None:
    assert "learning" not in TRIAL.processes
    assert "rollout" in TRIAL.processes
    assert TRIAL.name == FLIGHTS.name, "its features are prepared as those of the flights"
