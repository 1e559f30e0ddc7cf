"""No task or thread ends unnoticed: each place that starts one says here who watches it."""

import ast
from collections.abc import Iterator

from services.operations import import_map

STARTS = {"create_task", "ensure_future", "run_coroutine_threadsafe", "Thread"}
"""Names of the functions that start work which nobody need await."""
WATCHED = {
    # Long work: it goes on after any error, or its end is seen.
    "services.runtime.supervised_task.SupervisedTask.running": "it is the watch: restarts, logs, tells why",
    "services.runtime.async_process.BackgroundTask.running": "its end stops the process (`failure`)",
    "services.runtime.web.server.serve_in_thread": "its end stops the process",
    "services.runtime.web.server.serve_in_loop": "its end stops the process",
    "services.runtime.kafka_outbox.Outbox.__init__": "an event loop; errors of its work reach who waits",
    "services.runtime.model_ownership.ModelOwnership.__init__": "`renew` raises its error, and if it hangs",
    "services.features.catch_up.CatchUp.start": "a build is tried again after any error",
    "services.features.row_store.RowStore.running": "goes on after any error; `fault` is in the readiness",
    "services.features.process.FeaturesProcess._check_store": "a sweep; the next check repeats it",
    "services.archive.process.ArchiveSessions._session": "its end, also by an error, begins a new session",
    "services.alerting.report_files.ReportWriter.__init__": "goes on after any error, which is logged",
    "services.dashboard.process._reading": "goes on after any error; the page and its readiness show it",
    "services.model_registry.loading_process._prepare": "ends its process with the parent",
    "services.retraining.training_process._work": "ends its process with the service",
    "services.scoring.deployments.Deployments.running": "goes on after any error, which is logged",
    "services.scoring.prediction_log.PredictionLog.running": "goes on after any error; losses are counted",
    "streams.groups.Group.running": "goes on after any error, which is logged",
    "streams.faust_internals.InLoopConsumer.start": "its crash is `Group.failure`",
    "streams.batches._Lane.__init__": "waits only; each slice is repeated after any error",
    "streams.batches._Lane._work": "one slice: repeated after any error, or its records are isolated",
    # Short work: it is awaited, or its error reaches somebody.
    "services.runtime.web.rate_limits.SharedLimit._borrow": "awaited; any error means to limit alone",
    "services.runtime.kafka_outbox.Outbox._run": "awaited",
    "services.alerting.session.AlertingSession.step": "one delivery; any error settles it as failed",
    "services.scoring.deployments.Deployments.reconcile": "a start or stop; its error is a fault or logged",
    "services.scoring.loaded_versions.LoadedVersions._attempt": "awaited; its error is the fault",
    "services.scoring.shadows.ShadowArms.start": "awaited by `ShadowRun.scores`, or cancelled",
    "services.scoring.batcher.Batcher._start": "its error is set in the futures of its callers",
    "streams.aiokafka_internals.stop_consumer": "awaited, then cancelled",
    "streams.producer_connection.ProducerConnection.deliver": "awaited",
    "streams.producer_connection.ProducerConnection.close": "awaited for a time, then cancelled",
    "streams.faust_internals.BatchConsumer._drain_messages": "awaited in the same loop",
}


def places() -> Iterator[str]:
    """Yield the qualified name of each function in which work is started."""
    for module, path in import_map.modules().items():
        if not module.startswith("services.demo"):  # it ends with its first failure
            yield from _places(ast.parse(path.read_text(encoding="utf-8")), module)


def _places(node: ast.AST, name: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        inner = name
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{name}.{child.name}"
        elif isinstance(child, ast.Call) and _name(child.func) in STARTS:
            yield name
        yield from _places(child, inner)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_each_task_and_thread_is_watched() -> None:
    """Prefer `services.runtime.supervised_task.SupervisedTask`, which needs no entry here."""
    found = set(places())
    assert sorted(found - WATCHED.keys()) == [], "say who watches it"
    assert sorted(WATCHED.keys() - found) == [], "this entry is no longer needed"


def test_the_search_finds_calls_in_nested_functions() -> None:
    tree = ast.parse("class A:\n def f(self):\n  def g():\n   threading.Thread(target=h).start()\n  return g")
    assert list(_places(tree, "m")) == ["m.A.f.g"]
