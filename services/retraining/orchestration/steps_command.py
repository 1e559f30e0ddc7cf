"""``driftline retraining prepare``, ``run`` and ``submit``: a retraining outside of the service."""

from pathlib import Path

from services.runtime import thread_count
from services.runtime.command_output import fail, ok, say, warn
from services.runtime.settings import Settings


def prepare(model: str, *, request_id: str = "", reason: str = "by hand") -> None:
    """Make the folder in which the steps of a retraining run, and print its path.

    Nothing is asked of the service. A folder that exists keeps its request.

    Args:
        model: Declared model with a section gates.
        request_id: Its id; a request gets one version, however often it is repeated. Default: a new one.
        reason: Why, for the run and the people who read of it.
    """
    thread_count.limit()
    from services.retraining.orchestration import exit_status, preparation  # late: see `thread_count`

    with exit_status.told():
        run = preparation.prepare(Settings(), preparation.request_of(model, request_id, reason))
        say(run.path)


def run(model: str, *, request_id: str = "", reason: str = "by hand") -> None:
    """Run all steps of a retraining in this process, and submit its version.

    Args:
        model: Declared model with a section gates.
        request_id: Its id; a request gets one version, however often it is repeated. Default: a new one.
        reason: Why, for the run and the people who read of it.
    """
    thread_count.limit()
    from services.retraining.orchestration import exit_status, preparation  # late: see `thread_count`
    from services.retraining.steps import pipeline, release_steps  # late: see `thread_count`

    settings = Settings()
    with exit_status.told():
        folder = preparation.prepare(settings, preparation.request_of(model, request_id, reason))
        for step in pipeline.STEPS:
            is_new = preparation.run_one(step, folder, settings)
            say(f"{step.name}: {'done' if is_new else 'nothing that it reads has changed'}")
        if text := release_steps.kept_text(folder):
            warn(text)
        preparation.submit(settings, folder)
    ok(f"asked for the release of {folder.request.request_id}; the process driftline retraining does it")


def submit(*, run: Path) -> None:
    """Ask the service to release the version of a run, if its gates have passed.

    Args:
        run: The folder of the run, after its last step.
    """
    from services.retraining.orchestration import exit_status, preparation  # late: imports NumPy
    from services.retraining.run_folder import REQUEST, RunFolder  # late: as above

    if not RunFolder(run).has(REQUEST):
        fail(f"{run} is no folder of a run: it has no {REQUEST}; 'driftline retraining prepare' makes one")
    with exit_status.told():
        request = preparation.submit(Settings(), RunFolder(run))
    ok(f"asked for the release of {request.request_id}; the process driftline retraining does it")
