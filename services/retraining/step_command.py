"""``driftline retraining step`` runs one step of a retraining in its run folder."""

from pathlib import Path

from services.runtime import thread_count
from services.runtime.command_output import fail, ok, say, warn
from services.runtime.settings import Settings


def step(name: str, *, run: Path) -> None:
    """Run one step, unless nothing that it reads has changed since it was done.

    The steps are, in this order, extract, validate, train, evaluate, gate, card and register. Each writes its
    results and their digests into the folder. A registered version scores no requests before its promotion.
    The exit code is 75 if a server is away, so that the same command may succeed later, and 1 for a fault.

    Args:
        name: The step.
        run: The folder of the run, below runs/ in the home folder.
    """
    thread_count.limit()
    from services.retraining.orchestration import exit_status, preparation  # late: they import NumPy,
    from services.retraining.run_folder import REQUEST, RunFolder  # late: which reads the variable when
    from services.retraining.steps import pipeline, release_steps  # late: it is loaded

    folder = RunFolder(run)
    if not folder.has(REQUEST):
        fail(f"{run} is no folder of a run: it has no {REQUEST}; 'driftline retraining prepare' makes one")
    with exit_status.told():
        wanted = pipeline.step_of(name)
        is_new = preparation.run_one(wanted, folder, Settings())
    if is_new:
        ok(f"{name}: wrote {', '.join(wanted.outputs)}")
        if wanted is release_steps.REGISTER and (text := release_steps.kept_text(folder)):
            warn(f"{name}: {text}")
    else:
        say(f"{name}: nothing that it reads has changed")
