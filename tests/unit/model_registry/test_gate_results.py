import msgspec
import pytest

from services.model_registry.gate_results import GateReport, GateResult, bounded, result


def test_all_gates_must_pass():
    passed, failed = result("floor", "passed", "low"), result("auc", "failed", "too low")

    assert GateReport([passed]).passed
    assert not GateReport([passed, failed]).passed
    assert GateReport([passed, failed]).reasons == ["auc: too low"]


def test_undecided_gates_refuse_unless_declared_otherwise():
    undecided = [result("champion", "not_enough_data", "few days")]

    assert not GateReport(undecided).passed
    assert GateReport(undecided, "accept").passed
    assert not GateReport([*undecided, result("floor", "failed", "high")], "accept").passed


def test_report_survives_json():
    report = GateReport([result("floor", "passed", "low", {"log_loss": 0.5, "auc": float("nan")})])

    assert msgspec.json.decode(msgspec.json.encode(report), type=GateReport) == report
    assert report.results == [GateResult("floor", "passed", "low", {"log_loss": 0.5})]


@pytest.mark.parametrize(
    ("low", "high", "outcome"), [(0, 0.1, "passed"), (0.2, 0.3, "failed"), (0, 0.3, "not_enough_data")]
)
def test_interval_decides_only_if_it_lies_on_one_side(low: float, high: float, outcome: str):
    assert bounded(low, high, 0.1) == outcome
