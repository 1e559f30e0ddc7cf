"""Bins by name, and well-formed charts."""

from xml.etree import ElementTree as ET

from services.monitoring.reports.svg_charts import LINE_WIDTH, Bar, Line, bars, overlay, timeline
from streams.records import Bins


def test_bins_have_names_and_empty_ones_are_left_out():
    shown = bars(Bins(edges=[0.0, 1.5], expected=[0, 0.5, 0.5, 0], counts=[2, 0, 2, 0]))
    assert [bar.name for bar in shown] == ["below 0", "0 to 1.5", "1.5 and above"]
    assert shown[0].difference == 0.5


def test_the_bin_of_missing_values_is_named():
    shown = bars(Bins(categories=["a"], expected=[1.0, 0.0], counts=[3, 1]))
    assert [(bar.name, bar.current) for bar in shown] == [("a", 0.75), ("(missing)", 0.25)]


def test_a_distribution_has_a_pair_of_bars_for_each_bin_and_escapes_names():
    chart = ET.fromstring(overlay("<x>", [Bar("<a>", 0.5, 0.25, 1), Bar("b", 0.5, 0.75, 3)]))
    assert len(chart.findall(".//rect")) == 4
    assert [each.get("class") for each in chart.findall(".//rect")][1::2] == ["current", "current more"]
    assert chart.get("aria-label") == (
        "<x>: expected and current shares in 2 bins; largest change: <a>, from 50.0% to 25.0%"
    )


def test_a_distribution_without_values_is_described_as_such():
    assert 'aria-label="x: no values"' in overlay("x", [])


def test_a_series_skips_windows_without_values_and_stays_within_the_chart():
    lines = [Line("live", "live", [0.5, None, 0.7]), Line("empty", "shadow", [None, None, None])]
    chart = ET.fromstring(timeline("loss", lines, ["a", "b", "c"], limit=0.6))
    (line,) = chart.findall("polyline")
    points = [tuple(map(float, point.split(","))) for point in str(line.get("points")).split()]
    assert len(points) == 2
    assert all(0 <= x <= LINE_WIDTH for x, _ in points)
    assert points[0][1] > points[1][1], "a larger value is higher"
    assert len([each for each in chart.findall("path") if each.get("class") == "limit"]) == 1


def test_a_constant_series_has_a_chart_and_none_without_values():
    assert "polyline" in timeline("loss", [Line("live", "live", [0.0])], ["a"])
    assert timeline("loss", [Line("live", "live", [None])], ["a"]) == ""
