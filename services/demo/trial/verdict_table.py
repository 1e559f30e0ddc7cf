"""The verdicts on the candidates of the trial, for a terminal or a log."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from services.demo.trial.verdicts import CandidateVerdict


def table(found: Sequence[CandidateVerdict]) -> Table:
    """Return a line for each candidate."""
    made = Table(title="Bad candidates", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("candidate", "version", "outcome", "stopped by", "why"):
        made.add_column(name)
    for each in found:
        cells = (each.outcome or "open", ", ".join(each.stopped_by) or "-", each.text)
        made.add_row(each.candidate, str(each.version or "-"), *cells)
    return made
