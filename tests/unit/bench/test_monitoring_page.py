"""The page of the monitoring benchmark shows the figures before and after, and the worst of them."""

import functools

from bench.monitoring import figures, page
from bench.monitoring.figures import Measured
from bench.monitoring.table import Case, Table, Worst

TABLE = Table(
    "Delay",
    "How long it takes.",
    {"a": Case(functools.partial(dict), 8), "b": Case(functools.partial(dict), 2)},
    lambda runs: runs[0],
    {"worst_delay": Worst("delay_days", "a")},
)
BEFORE = Measured("abc", "2026-01-01", {"a": {"delay_days": 180.0, "missed_share": 0.25}})


def test_page_has_a_column_before_and_after():
    after = Measured("def", "2026-02-01", {"a": {"delay_days": 0.5, "missed_share": 0.0}})
    text = page.text({"delays": TABLE}, {"delays": BEFORE}, {"delays": after})
    assert "| worst delay | 180 | 0.5 |" in text
    assert "| a | 180 | 0.5 | 25.0% | 0.0% |" in text
    assert "Before: `abc` of 2026-01-01. After: `def` of 2026-02-01." in text


def test_what_was_not_measured_is_a_dash():
    text = page.text({"delays": TABLE, "other": TABLE}, {"delays": BEFORE}, {})
    assert "| a | 180 | - | 25.0% | - |" in text
    assert "| b |" not in text
    assert text.count("## Delay") == 1


def test_worst_figure_is_that_of_the_cases_with_its_beginning():
    cases = {"a": {"delay_days": 1.0}, "b": {"delay_days": 5.0}}
    assert figures.ratios({"delays": TABLE}, {"delays": cases}) == {"worst_delay": 1.0}


def test_a_quick_look_takes_a_quarter_of_the_seeds():
    assert [len(case.seeds_of(is_short=True)) for case in TABLE.cases.values()] == [2, 1]
