import datetime as dt
from pathlib import Path

import pytest

from services.demo import months, options, worlds
from services.demo.trial import candidates
from services.demo.trial.world import TRIAL


def test_without_options_the_whole_year_is_played_as_fast_as_possible() -> None:
    parsed = options.parse()
    assert parsed.speed is None
    assert parsed.whole_year


@pytest.mark.parametrize(("text", "speed"), [("86400x", 86_400.0), ("86400", 86_400.0), ("1.5X", 1.5)])
def test_speed_is_a_factor_with_or_without_x(text: str, speed: float) -> None:
    assert options.parse(speed=text).speed == speed


@pytest.mark.parametrize("text", ["fast", "0x", "-3x", "0.5x", "1e9", "99999999x", ""])
def test_error_about_a_speed_says_what_to_write(text: str) -> None:
    with pytest.raises(options.OptionError, match="86400x is one day per second"):
        options.parse(speed=text)


def test_until_is_midnight_in_new_york() -> None:
    parsed = options.parse(until="2013-03-01")
    assert parsed.until_ms == months.local_midnight_ms(dt.date(2013, 3, 1))
    assert not parsed.whole_year


@pytest.mark.parametrize("text", ["2013-02-01", "2012-12-01", "2014-01-02"])
def test_until_outside_the_year_is_refused(text: str) -> None:
    with pytest.raises(options.OptionError, match="must be from 2013-02-02"):
        options.parse(until=text)


def test_until_must_be_a_date() -> None:
    with pytest.raises(options.OptionError, match="write a date such as 2013-02-02"):
        options.parse(until="March")


def test_speed_and_max_exclude_each_other() -> None:
    with pytest.raises(options.OptionError, match="exclude each other"):
        options.parse(speed="10x", as_fast_as_possible=True)


@pytest.mark.parametrize("hours", [0.0, 49.0])
def test_lead_outside_its_bounds_is_refused(hours: float) -> None:
    with pytest.raises(options.OptionError, match=r"between 0\.5 and 48"):
        options.parse(lead_hours=hours)


def test_a_world_is_chosen_by_name_and_plays_to_its_end() -> None:
    parsed = options.parse(world="payments")
    assert parsed.world is worlds.PAYMENTS
    assert parsed.whole_year
    assert options.parse(world="payments", until="2025-04-01").until_ms == 1_743_465_600_000


def test_an_unknown_world_is_refused_with_a_suggestion() -> None:
    with pytest.raises(options.OptionError, match="did you mean payments"):
        options.parse(world="payment")
    with pytest.raises(options.OptionError, match="known are flights, payments"):
        options.parse(world="x")


def test_until_follows_the_calendar_of_the_world() -> None:
    with pytest.raises(options.OptionError, match=r"must be from 2025-03-03 .* to 2025-05-01"):
        options.parse(world="payments", until="2013-03-01")


def test_payments_have_no_chronicle(tmp_path: Path) -> None:
    with pytest.raises(options.OptionError, match="nothing is known of the days of the payments"):
        options.parse(world="payments", chronicle=tmp_path / "page.md")


def test_summary_that_cannot_be_written_is_refused_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(options.OptionError, match="is a folder"):
        options.parse(summary=tmp_path)
    with pytest.raises(options.OptionError, match="does not exist"):
        options.parse(summary=tmp_path / "nowhere" / "summary.json")


def test_bad_candidates_have_an_end_of_their_own(tmp_path: Path) -> None:
    parsed = options.parse(bad_candidates=True)
    assert parsed.world is TRIAL
    assert parsed.until_ms == candidates.UNTIL_MS
    others = (
        {"until": "2013-03-01"},
        {"chronicle": tmp_path / "page.md"},
        {"monthly": True},
        {"world": "payments"},
    )
    for given in others:
        with pytest.raises(options.OptionError, match="plays a few weeks of the flights"):
            options.parse(bad_candidates=True, **given)


def test_chronicle_has_monthly_retraining_beside_it(tmp_path: Path) -> None:
    assert not options.parse().monthly
    assert options.parse(monthly=True).monthly
    assert options.parse(chronicle=tmp_path / "page.md").monthly
