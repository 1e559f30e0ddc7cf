"""``driftline demo``: the whole system on a world of events, in one command."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from services.demo import options
from services.demo.options import Options

_WIDTH_WITHOUT_TERMINAL = 120


def demo(
    world: str = "flights",
    *,
    speed: str | None = None,
    as_fast_as_possible: Annotated[bool, Parameter(name="--max", negative="")] = False,
    summary: Path | None = None,
    chronicle: Path | None = None,
    until: str | None = None,
    home: Path | None = None,
    lead_hours: float | None = None,
    monthly: Annotated[bool, Parameter(negative="")] = False,
    bad_candidates: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Stream a world through features, scoring, drift and retraining, and show the results live.

    Starts Kafka, Valkey, MLflow and every process of Driftline on this machine, always with empty data.
    The first part is collected and trains the first model; the rest is scored. On a terminal, the dashboard
    then keeps running until Ctrl-C.

    Args:
        world: flights (the year 2013 of New York) or payments (fraud that changes, with late chargebacks).
        speed: Event time per wall time; 86400x is one day per second.
        as_fast_as_possible: Play as fast as the processes can follow; this is the default.
        summary: Write the result to this file, as JSON.
        chronicle: Write every alarm and retraining of the flights to this file, as Markdown.
        until: Send no requests from this date on (flights: 2013-02-02 to 2014-01-01).
        home: Folder of the demo's data and logs, emptied at the start; default: .driftline/demo.
        lead_hours: Maximum lead of event time over drift; at most what the model declares.
        monthly: At the end also train a model for each month on all months before it, and show its loss
            beside that of the loop; takes about a minute. A chronicle always has it.
        bad_candidates: Play a few weeks of the flights, in which bad candidates are asked for: each must be
            stopped by its gate, or be rolled back. The exit code is 1 if one is not.
    """
    try:
        parsed = options.parse(
            world=world,
            speed=speed,
            as_fast_as_possible=as_fast_as_possible,
            until=until,
            summary=summary,
            chronicle=chronicle,
            home=home,
            lead_hours=lead_hours,
            monthly=monthly,
            bad_candidates=bad_candidates,
        )
    except options.OptionError as error:
        sys.stderr.write(f"driftline demo: {error}\n")
        sys.exit(2)
    sys.exit(_run(parsed))


def _run(parsed: Options) -> int:
    from rich.console import Console

    from services.demo.run import Demo  # late: imports Kafka, Redis and Rich, 2 s

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_WITHOUT_TERMINAL)
    return Demo(parsed, console).run()
