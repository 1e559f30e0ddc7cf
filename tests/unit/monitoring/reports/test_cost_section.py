"""What a report tells about cost."""

import msgspec
import pytest

from services.monitoring.reports import cost_section, html_page
from services.monitoring.reports.cost_section import CostSection
from services.monitoring.reports.history import WindowReport
from streams import records
from tests.unit.monitoring.reports.windows import at


def performances(reference: float | None = 2.0) -> list[records.PerformanceReport]:
    accounts = [
        records.CostAccount(
            total=total, reference=reference, before=None, cumulative_labels=10 * number,
            cumulative=50.0, compared_labels=0, saved=None if reference is None else -7.0,
        )
        for number, total in enumerate((15.0, 40.0))
    ]  # fmt: skip
    return [
        msgspec.structs.replace(known, cost=account, unit="<USD>", labels=10)
        for known, account in zip(at(27).performances[-2:], accounts, strict=True)
    ]


def section(*args: float | None) -> CostSection:
    found = cost_section.make(performances(*args))
    assert found is not None
    return found


def test_the_mean_is_that_of_the_window_and_savings_are_added_up():
    made = section()
    assert (made.mean, made.unit) == (4.0, "<USD>")
    points = made.saved_chart.split('points="')[1].split('"')[0].split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights[1] > heights[0]  # 20 - 15 saved, then 20 - 40: the line falls
    assert made.account.saved == pytest.approx(-7.0)


def test_without_a_reference_nothing_is_saved():
    assert section(None).saved_chart == ""


def test_without_costs_there_is_no_section():
    assert cost_section.make([]) is None
    assert cost_section.make(at(27).performances) is None


def test_the_page_shows_the_section():
    window, made = at(27), performances()
    html = html_page.as_html(WindowReport(window.report, (), (), (), made[-1], tuple(made)))
    assert "&lt;USD&gt; per prediction" in html
    assert "<USD>" not in html
    assert "More than the reference so far" in html
