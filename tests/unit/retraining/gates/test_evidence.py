import numpy as np

from tests.unit.retraining.gates.held_out_rows import held_out


def test_some_rows_keep_their_outputs_and_columns():
    rows = held_out()
    some = rows.taken(np.array([3, 5]))

    assert some.labels.tolist() == rows.labels[[3, 5]].tolist()
    assert rows.champion is not None
    assert some.champion is not None
    assert some.champion.tolist() == rows.champion[[3, 5]].tolist()
    assert some.columns["shop"].tolist() == [None, "green"]
    assert held_out(champion_noise=None).taken(np.array([1])).champion is None
