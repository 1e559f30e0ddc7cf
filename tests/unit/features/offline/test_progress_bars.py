"""Progress output of a command without a terminal."""

import pytest

from services.features.offline.progress_bars import ProgressBars


def test_without_a_terminal_each_quarter_is_one_line(capsys: pytest.CaptureFixture[str]):
    with ProgressBars() as progress:
        for done in range(1, 101):
            progress.report("reading", done, 100)
    assert capsys.readouterr().err.splitlines() == [f"reading: {done} of 100" for done in (25, 50, 75, 100)]
