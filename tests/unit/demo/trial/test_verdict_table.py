"""The table of verdicts."""

import io

from rich.console import Console

from services.demo.trial import verdict_table
from services.demo.trial.verdicts import CandidateVerdict


def test_each_candidate_has_a_line_with_what_stopped_it() -> None:
    console = Console(file=io.StringIO(), width=120)
    stopped = CandidateVerdict(
        candidate="slow", model="m", version=4, outcome="rejected", stopped_by=["latency"], text="74 times"
    )
    console.print(verdict_table.table([stopped, CandidateVerdict(candidate="unfair", model="m")]))
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["slow", "4", "rejected", "latency", "74", "times"] in lines
    assert ["unfair", "-", "open", "-"] in lines
