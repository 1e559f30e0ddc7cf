import math

from services.retraining.evaluation import ClassifierMetrics
from services.retraining.gates import refusals
from services.runtime.declaration import Gates


def metrics(log_loss: float) -> ClassifierMetrics:
    return ClassifierMetrics(log_loss=log_loss, auc=0.7, accuracy=0.8, brier=0.15)


def test_without_a_champion_the_floor_alone_decides():
    gates = Gates(floor=0.6, margin=0.1)

    assert refusals(gates, metrics(0.6), None) == []
    assert refusals(gates, metrics(0.61), None) == [
        "log loss 0.6100 on the held-out days is above the floor of 0.6"
    ]


def test_candidate_must_beat_the_champion_by_the_margin():
    gates = Gates(floor=0.6, margin=0.01)

    assert refusals(gates, metrics(0.48), metrics(0.5)) == []
    assert refusals(gates, metrics(0.495), metrics(0.5)) == [
        "log loss 0.4950 on the held-out days does not beat the champion's 0.5000 by the margin of 0.01"
    ]


def test_candidate_may_be_worse_by_a_margin_below_zero():
    gates = Gates(floor=0.6, margin=-0.01)

    assert refusals(gates, metrics(0.505), metrics(0.5)) == []
    assert refusals(gates, metrics(0.515), metrics(0.5)) == [
        "log loss 0.5150 on the held-out days is worse than the champion's 0.5000 by more than 0.01"
    ]


def test_equal_candidate_passes_where_no_margin_is_asked():
    assert refusals(Gates(floor=0.6), metrics(0.5), metrics(0.5)) == []


def test_loss_that_is_no_number_never_passes():
    assert len(refusals(Gates(floor=0.6), metrics(math.nan), metrics(0.5))) == 2
