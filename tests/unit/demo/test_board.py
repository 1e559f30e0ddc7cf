import dataclasses
import io

import pytest
from rich.console import Console, RenderableType

from services.demo import board, months
from services.demo.account import Month
from services.demo.board import BoardState, Meter
from streams import records

FEBRUARY = Month(
    month="2013-02", requests=22_000, labels=21_000, log_loss_live=0.4567, log_loss_frozen=0.4712
)
ALARM = records.DriftAlarm(
    alarm_id="a",
    model="late",
    version=1,
    kind="feature",
    subject="temp",
    value=0.9,
    threshold=0.25,
    detected_at_ms=months.SCORING_START_MS,
    since_ms=months.SCORING_START_MS,
    message="temp has moved",
)
RETRAINING = records.RetrainingFinished(
    request_id="r",
    model="late",
    trigger="drift",
    requested_at_ms=months.SCORING_START_MS,
    result="rejected",
    version=3,
    reasons=["log loss 0.5 against 0.4"],
)


@pytest.fixture
def snapshot() -> BoardState:
    return BoardState(
        phase="scoring",
        start_ms=months.YEAR_START_MS,
        end_ms=months.YEAR_END_MS,
        position_ms=months.SCORING_START_MS,
        watermark_ms=months.SCORING_START_MS - 5_400_000,
        events_a_second=8123.4,
        predictions_a_second=2000.0,
        seconds=61.0,
        version=2,
        table=[FEBRUARY],
        alarms=[ALARM],
        retrainings=[RETRAINING],
        open_reasons=["log loss has risen"],
    )


def text_of(renderable: RenderableType, width: int = 120) -> str:
    page = io.StringIO()
    Console(file=page, width=width).print(renderable)
    return page.getvalue()


def test_board_shows_time_rates_version_months_alarms_and_retrainings(snapshot: BoardState) -> None:
    text = text_of(board.render(snapshot))
    for part in (
        "2013-02-01 00:00",
        "8,123 events/s",
        "lag 1.5 h of event time",
        "version 2",
        "2013-02",
        "0.457",
        "0.471",
        "-0.015",
        "temp has moved",
        "rejected: log loss 0.5 against 0.4",
        "log loss has risen",
    ):
        assert part in text


def test_board_at_the_start_is_short(snapshot: BoardState) -> None:
    empty = dataclasses.replace(snapshot, version=0, table=[], alarms=[], retrainings=[], open_reasons=[])
    text = text_of(board.render(empty))
    assert "no model yet" in text
    assert len(text.splitlines()) == 2


def test_board_fits_a_narrow_terminal(snapshot: BoardState) -> None:
    assert max(map(len, text_of(board.render(snapshot), width=80).splitlines())) <= 80


def test_board_fits_few_lines_and_keeps_the_latest(snapshot: BoardState) -> None:
    table = [dataclasses.replace(FEBRUARY, month=name) for name in months.NAMES[1:]]
    full = dataclasses.replace(
        snapshot,
        table=table,
        alarms=[ALARM] * 20,
        retrainings=[RETRAINING] * 20,
    )
    for height in (24, 30, 50):
        text = text_of(board.render(full, height))
        assert len(text.splitlines()) <= height - 6
        assert "2013-12" in text


def test_month_has_one_log_line(snapshot: BoardState) -> None:
    line = board.month_line(snapshot, "2013-02")
    assert "log loss 0.457, frozen 0.471" in line
    assert "collecting" in board.month_line(snapshot, "2013-01")


def test_share_is_between_0_and_1(snapshot: BoardState) -> None:
    assert dataclasses.replace(snapshot, position_ms=0).share == 0.0
    assert dataclasses.replace(snapshot, position_ms=months.YEAR_END_MS * 2).share == 1.0


def test_banner_lists_every_address() -> None:
    text = text_of(
        board.banner([("Page", "http://127.0.0.1:8000"), ("MLflow", "http://x")], "Ctrl-C ends it")
    )
    assert "http://127.0.0.1:8000" in text
    assert "Ctrl-C ends it" in text


def test_meter_follows_the_rate() -> None:
    meter = Meter()
    assert meter.update(0, 0.0) == 0.0
    for second in range(1, 10):
        meter.update(second * 100, float(second))
    assert meter.value == pytest.approx(100.0)
    assert meter.update(900, 9.0) == pytest.approx(100.0), "no time has passed"
