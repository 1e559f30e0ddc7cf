import msgspec

from services.demo.figures import Figures, PeriodLine


def test_a_period_has_the_keys_of_the_summary() -> None:
    line = PeriodLine(
        from_="2025-03-02T00:00:00Z",
        before_change=True,
        requests=2,
        positives=1,
        average_precision_live=1.0,
        average_precision_frozen=0.5,
        log_loss_shown=None,
        log_loss_true=0.1,
    )
    (found,) = msgspec.to_builtins(Figures(periods=[line]))["periods"]
    keys = {"from", "before_change", "average_precision_live", "average_precision_frozen"}
    assert found.keys() >= keys | {"log_loss_shown", "log_loss_true"}
