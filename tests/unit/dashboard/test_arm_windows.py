"""The arms of a window as the page shows them: the champion first, bounded, without what is not known."""

import msgspec

from services.dashboard import arm_windows
from tests.browser.synthetic_year import Year
from tests.unit.drift import scenario

REPORT = Year("m", days=40).reports[-1]


def test_the_champion_comes_first_then_challengers_then_shadows():
    found = arm_windows.arm_windows(REPORT)
    assert [(each.arm, each.shadow, each.champion) for each in found] == [
        ("champion", False, True),
        ("new", False, False),
        ("broken", True, False),
        ("frozen", True, False),
    ]
    champion, new, broken, frozen = found
    assert (champion.difference, champion.p50_ms, champion.p99_ms) == (None, 0.724, 5.793)
    assert None not in (new.low, new.difference, new.high, frozen.low)
    assert (new.paired, frozen.paired) == (False, True)
    assert (broken.failed, broken.predictions, broken.loss) == (REPORT.predictions, 0, None)


def test_fields_that_are_not_known_are_left_out():
    broken = arm_windows.arm_windows(REPORT)[2]
    assert msgspec.json.decode(msgspec.json.encode(broken)).keys() == {
        "arm", "version", "shadow", "failed", "failed_share",
    }  # fmt: skip


def test_a_window_shows_a_bounded_number_of_arms_and_an_older_report_none(monkeypatch):
    monkeypatch.setattr(arm_windows, "ARMS_MAX", 2)
    assert [each.arm for each in arm_windows.arm_windows(REPORT)] == ["champion", "new"]
    assert arm_windows.arm_windows(msgspec.structs.replace(REPORT, arms=[])) == []


def test_the_arms_of_the_drift_engine_are_shown():
    outputs = scenario.play(scenario.new_engine(partitions=2), scenario.traffic(4))
    champion, frozen = arm_windows.arm_windows(scenario.reports(outputs)[2])
    assert (champion.arm, champion.champion, champion.difference) == ("champion", True, None)
    assert (frozen.arm, frozen.version, frozen.labels > 0) == ("frozen", 0, True)
    assert frozen.difference is None, "of an unknown version"
