import msgspec
import pytest

from services.rollout import label_windows
from services.rollout.label_windows import LabelWindows, VersionOutput
from services.rollout.step_evidence import StepEvidence
from tests.unit.rollout.rollout_model import HOUR_MS, START_MS, declaration, label


@pytest.fixture
def windows() -> LabelWindows:
    return LabelWindows(declaration(), {}, {})


def evidence(mode: str) -> StepEvidence:
    return StepEvidence(mode=mode, start_ms=START_MS, blocks={})  # type: ignore[arg-type]


def test_request_counts_when_its_window_has_closed(windows: LabelWindows) -> None:
    found = evidence("keys")
    windows.wait("p1", START_MS, VersionOutput(0.9), is_own=True)
    windows.take_label(label(1, START_MS + 10, 1.0))
    windows.close_until(START_MS + HOUR_MS, found)
    assert found.labels == 0
    windows.close_until(START_MS + HOUR_MS + 1, found)
    assert found.labels == 1
    count, total, *_ = found.blocks["loss"][0]
    assert count == 1
    assert total == pytest.approx(0.10536 / 4, rel=1e-4)


def test_latest_label_of_the_window_counts_and_later_ones_do_not(windows: LabelWindows) -> None:
    windows.wait("p1", START_MS, VersionOutput(0.9))
    windows.take_label(label(1, START_MS + 10, 1.0))
    windows.take_label(label(1, START_MS + 20, 0.0))
    windows.take_label(label(1, START_MS + HOUR_MS + 1, 1.0))
    assert windows.waiting["p1"].label == 0.0


def test_request_without_a_label_is_counted_apart(windows: LabelWindows) -> None:
    found = evidence("keys")
    windows.wait("p1", START_MS, VersionOutput(0.9))
    windows.close_until(START_MS + 2 * HOUR_MS, found)
    assert (found.labels, found.unlabelled) == (0, 1)
    assert found.blocks == {}


def absent_windows() -> LabelWindows:
    declared = declaration()
    label = declared.label.model_copy(update={"absent": 0})
    return LabelWindows(declared.model_copy(update={"label": label}), {}, {})


def test_request_without_a_label_has_the_declared_one_when_its_window_has_closed() -> None:
    windows, found = absent_windows(), evidence("paired")
    windows.wait("p1", START_MS, VersionOutput(0.5), VersionOutput(0.9))
    windows.close_until(START_MS + HOUR_MS, found)
    assert found.blocks == {}
    windows.take_label(label(1, START_MS + HOUR_MS + 1, 1.0))  # too late: the evidence is not changed
    windows.close_until(START_MS + HOUR_MS + 1, found)
    assert (found.labels, found.unlabelled) == (1, 0)
    assert found.blocks["loss"][0] == [1, pytest.approx((0.69315 - 2.30259) / 4, rel=1e-4)]


def test_requests_whose_labels_may_have_been_dropped_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_windows, "EARLY_MAX", 2)
    windows = absent_windows()
    for number in range(4):
        windows.take_label(label(number, START_MS + number, 1.0))
    for number in range(4):
        windows.wait(f"p{number}", START_MS + number, VersionOutput(0.9))
    assert list(windows.waiting) == ["p2", "p3"]


def test_pair_counts_with_its_difference(windows: LabelWindows) -> None:
    found = evidence("paired")
    windows.wait("p1", START_MS, VersionOutput(0.5), VersionOutput(0.9))
    windows.take_label(label(1, START_MS + 10, 1.0))
    windows.close_until(START_MS + 2 * HOUR_MS, found)
    assert found.blocks["loss"][0] == [1, pytest.approx((0.69315 - 0.10536) / 4, rel=1e-4)]


def test_first_request_with_an_id_counts(windows: LabelWindows) -> None:
    windows.wait("p1", START_MS, VersionOutput(0.9))
    windows.wait("p1", START_MS + 5, VersionOutput(0.1))
    assert windows.waiting["p1"].output.score == 0.9


def test_number_of_waiting_requests_is_bounded(
    windows: LabelWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_windows, "WAITING_MAX", 2)
    for number in range(3):
        windows.wait(f"p{number}", START_MS, VersionOutput(0.9))
    assert list(windows.waiting) == ["p0", "p1"]


def test_nothing_waits_without_a_guardrail_that_needs_labels() -> None:
    windows = LabelWindows(declaration(guardrails={}), {}, {})
    windows.wait("p1", START_MS, VersionOutput(0.9))
    assert windows.waiting == {}


def test_label_that_is_read_before_its_request_counts(windows: LabelWindows) -> None:
    windows.take_label(label(1, START_MS + 10, 0.0))
    windows.take_label(label(1, START_MS + 20, 1.0))
    windows.take_label(label(2, START_MS + HOUR_MS + 1, 1.0))
    for name in ("p1", "p2"):
        windows.wait(name, START_MS, VersionOutput(0.9))
    assert (windows.waiting["p1"].label, windows.waiting["p2"].label) == (1.0, None)
    assert windows.early == {}


def test_early_labels_are_dropped_when_all_requests_up_to_them_were_read(windows: LabelWindows) -> None:
    for number in range(3):
        windows.take_label(label(number, START_MS + number, 1.0))
    windows.drop_early(START_MS + 2)
    assert list(windows.early) == ["p2"]


def test_number_of_early_labels_is_bounded(windows: LabelWindows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_windows, "EARLY_MAX", 2)
    for number in range(3):
        windows.take_label(label(number, START_MS, 1.0))
    assert list(windows.early) == ["p1", "p2"]


def test_waiting_requests_survive_a_snapshot(windows: LabelWindows) -> None:
    windows.wait("p1", START_MS, VersionOutput(0.5, 1.0, [0.1]), VersionOutput(0.9))
    encoded = msgspec.msgpack.encode(windows.waiting)
    kind = dict[str, label_windows.WaitingRequest]
    assert msgspec.msgpack.decode(encoded, type=kind) == windows.waiting
