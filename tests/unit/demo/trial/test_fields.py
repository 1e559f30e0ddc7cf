"""The made-up fields of the trial's requests."""

import msgspec
import numpy as np

from services.demo.playlist import Lane, Playlist
from services.demo.trial import fields
from services.runtime import declaration_file
from services.runtime.settings import Settings

DECLARATION = declaration_file.load_all(Settings().models)["arrival_delay"]
COUNT, TURNED_MS = 400, 200
DELAYS = [100.0 if number % 2 else -10.0 for number in range(COUNT)]
LABELLED = COUNT - 1


def lane(topic: str, rows: list[dict[str, object]]) -> Lane:
    times_ms = np.arange(len(rows))
    return Lane(topic, 0, times_ms, times_ms, [(b"UA1", msgspec.json.encode(row), []) for row in rows])


def requests() -> list[dict[str, object]]:
    """Return the requests of a playlist in which each second flight is late, and the last has no label."""
    asked = lane(DECLARATION.request.topic, [{"flight_id": str(number)} for number in range(COUNT)])
    arrived = lane(
        DECLARATION.label.topic,
        [{"flight_id": str(number), "arr_delay": DELAYS[number]} for number in range(LABELLED)],
    )
    playlist = Playlist((asked, arrived), DECLARATION.request.topic)
    extended = fields.add(playlist, DECLARATION, TURNED_MS)
    (sources,) = extended.sources()
    assert sources.records == arrived.records
    (made,) = extended.requests()
    return [msgspec.json.decode(value) for _, value, _ in made.records if value]


def test_requests_keep_their_fields_and_get_the_same_ones_in_each_run() -> None:
    found = requests()
    assert [row["flight_id"] for row in found] == [str(number) for number in range(COUNT)]
    assert found == requests()


def test_code_tells_whether_the_flight_will_be_late_and_nothing_without_a_label() -> None:
    codes = [row["arrival_code"] for row in requests()]
    assert codes == [number % 2 for number in range(LABELLED)] + [None]


def test_forecast_is_near_the_delay_until_it_is_turned() -> None:
    forecast = np.array([row["airline_forecast"] for row in requests()][:LABELLED])
    delays, before = np.array(DELAYS[:LABELLED]), np.arange(LABELLED) <= TURNED_MS
    errors = np.where(before, forecast - delays, forecast + delays)
    assert abs(errors.mean()) < 5
    assert 25 < errors.std() < 35
