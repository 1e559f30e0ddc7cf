"""The recent rows are of several batches, and bounded."""

import numpy as np

from services.scoring.recent_rows import ROWS_MAX, RecentRows


def test_the_newest_rows_of_several_batches_are_kept():
    recent = RecentRows()
    assert len(recent) == 0
    for batch in range(10):
        recent.add({"x": np.arange(6) + 10 * batch})
    rows = recent.columns()["x"].tolist()
    assert len(rows) == len(recent) == ROWS_MAX
    assert rows[:4] == [22, 23, 24, 25]
    assert rows[-4:] == [92, 93, 94, 95]
