"""Tells what the gates of learned versions found: in the log, and in the ledger.

Both hold each version that is refused, and the first that is not. The metric counts the
others, which passed as the one before: intervals may be seconds long, and the ledger is kept.
"""

from collections.abc import Sequence

import structlog

from services.learning.version_gate import GateVerdict
from services.model_registry import ledger, ledger_drafts
from services.runtime import times
from services.runtime.settings import Settings

_log = structlog.get_logger()


def tell(settings: Settings, model: str, verdicts: Sequence[GateVerdict]) -> None:
    """Log what is news, and return when the ledger holds it, each version once; raises as `ledger.append`."""
    news = [each for each in verdicts if each.is_news]
    for each in news:
        report = each.report
        write = _log.info if report.passed else _log.warning
        write(
            "learning.version_judged",
            model=model,
            version=each.version,
            outcome=report.outcome,
            passed=report.passed,
            gates={result.name: result.text for result in report.results},
        )
    drafts = [
        ledger_drafts.of_learned(
            model, each.version, each.report, interval_end_ms=each.interval_end_ms, at_ms=times.now_ms()
        )
        for each in news
    ]
    ledger.append(settings, drafts, "learning")
