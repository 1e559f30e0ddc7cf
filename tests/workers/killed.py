"""A process of Driftline that kills itself with SIGKILL before and after each of its writes, once each.

Run as ``python -m tests.workers.killed SERVICE FOLDER``: it starts the service again after each kill, from a
server that has imported all libraries, until it gets SIGTERM. Environment: the settings, as always.

A write is a call of a function that `install` wraps; its name says where it goes and what it is. Each kill
leaves a file in FOLDER, named by its number and the write, so the next process passes this point. `writes_of`
reads them. What is not wrapped cannot be a write: all records go through `RecordProducer` or `Outbox`, all
files of a run folder through `RunFolder` or `plots`, and every method of MLflow's client counts that is not
known to read.
"""

import functools
import importlib
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import msgspec

FOLDER = "KILLS_FOLDER"
"""Variable of the environment; without it nothing is wrapped."""
BEFORE, AFTER = "before", "after"
READS = ("get_", "search_", "list_", "download_", "load_", "parse_")
"""How the names of the methods of MLflow's client begin that write nothing."""
UNDECIDED = {"driftline.rollout-state", "driftline.dead-letters"}
"""Topics whose writes depend on the pace of the process and decide nothing."""

Name = Callable[..., str]
"""Returns the name of a write from the arguments of its function; empty: it is none."""


def writes_of(folder: Path) -> list[str]:
    """Return the writes in the order of their first kill, with what was there: ``before`` and ``after``."""
    found = sorted(path.name.split(" ", 1) for path in folder.iterdir() if path.name[0].isdigit())
    return [name.replace("~", "/") for _, name in found]


def install(folder: Path) -> None:
    """Wrap the functions that write."""
    from kafka import KafkaConsumer
    from mlflow import MlflowClient

    from services.model_registry import large_references
    from services.retraining import attempts, plots, request_queue
    from services.retraining.run_folder import RunFolder
    from services.runtime import large_records
    from services.runtime.kafka_outbox import Outbox
    from services.runtime.kafka_producers import RecordProducer

    if hasattr(RunFolder.finish, "__wrapped__"):  # the server imports this module, its children run it again
        return
    vars(attempts)["ATTEMPTS_MAX"] = 1 << 30  # one request is killed at all points
    request_queue.PAUSE_SECONDS_MAX = 0.05  # and does not wait for longer and longer
    large_references.INLINE_BYTES_MAX = 100  # so that its reference is written,
    large_records.PART_BYTES_MAX = 1000  # and in parts

    def wrap(owner: Any, method: str, name: Name) -> None:
        setattr(owner, method, _killed_around(getattr(owner, method), name, folder))

    wrap(RunFolder, "finish", lambda _, name: f"file {name}")
    wrap(RunFolder, "remove", lambda *_: "file removed")
    wrap(plots, "save_all", lambda *_: "file plots/")
    wrap(RecordProducer, "send", lambda _, topic, key, value, headers=(): record_name(topic, key, value))
    wrap(Outbox, "write", lambda _, stage: stage_name(stage))
    wrap(KafkaConsumer, "commit", lambda *_, **__: "offsets")
    for method in vars(MlflowClient):
        if not method.startswith(("_", *READS)) and callable(getattr(MlflowClient, method)):
            wrap(MlflowClient, method, functools.partial(mlflow_name, method))


def _killed_around(work: Callable[..., Any], name: Name, folder: Path) -> Callable[..., Any]:
    @functools.wraps(work)
    def killed(*args: Any, **kwargs: Any) -> Any:
        write = name(*args, **kwargs)
        _kill(folder, BEFORE, write)
        found = work(*args, **kwargs)
        _kill(folder, AFTER, write)
        return found

    return killed


def _kill(folder: Path, when: str, write: str) -> None:
    """End this process, unless another one was ended at this point before."""
    if not write:
        return
    try:
        mark = f"{when} {write}".replace("/", "~")
        os.close(os.open(folder / mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    number = sum(path.name[0].isdigit() for path in folder.iterdir())
    (folder / f"{number:03d} {mark}").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def mlflow_name(method: str, _client: Any, *args: Any, **_: Any) -> str:
    """Return the name of a call of MLflow's client."""
    alias = f" {args[1]}" if method == "set_registered_model_alias" else ""
    return f"mlflow {method}{alias}"


def stage_name(stage: Mapping[tuple[str, int], Sequence[Any]]) -> str:
    """Return the name of a stage of an outbox."""
    names = [record_name(topic, batch[0][0], batch[0][1]) for (topic, _), batch in stage.items() if batch]
    return ", ".join(filter(None, names))


def record_name(topic: str, key: bytes, value: bytes | None) -> str:
    """Return the name of a record: its topic and what distinguishes its content."""
    if topic in UNDECIDED or value is None:
        return ""
    if topic == "driftline.references":
        return f"{topic} {'part' if b'/part/' in key else 'head'}"
    content = msgspec.json.decode(value)
    if topic == "driftline.models":
        return f"{topic} {_arms(content['arms'])}"
    if topic == "driftline.ledger":
        evidence = content["evidence"]
        told = _arms(evidence["arms"]) if "arms" in evidence else str(evidence.get("step", ""))
        return f"{topic} {content['kind']} {told}".strip()
    given = [str(content[name]) for name in ("type", "step", "outcome", "result") if name in content]
    return " ".join([topic, *given])


def _arms(arms: Sequence[Mapping[str, Any]]) -> str:
    """Return the latest arms in short, without the past, which depends on when a step began."""
    from services.rollout import rollout_arms
    from streams.records import Arm

    return rollout_arms.described(msgspec.convert(arms, list[Arm]))


def serve(service: str) -> None:
    """Run the service; its trainings are forked from the server that has forked this process."""
    forkserver.ensure_running = lambda: None
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]  # its own would start one
    importlib.import_module(f"services.{service}.process").run()


def end(*_: object) -> None:
    """End the service and this process."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)


def main() -> None:
    """Start the service again after each kill."""
    from services.retraining import training_process

    service, folder = sys.argv[1:]
    os.environ[FOLDER] = folder
    context = multiprocessing.get_context("forkserver")
    own = (f"services.{service}.process", f"services.{service}.session", "tests.workers.killed")
    context.set_forkserver_preload([*training_process.PRELOADED, *own])
    signal.signal(signal.SIGTERM, end)
    for _ in itertools.count():
        process = context.Process(target=serve, args=(service,))
        process.start()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            sys.exit(process.exitcode)


if os.environ.get(FOLDER):
    install(Path(os.environ[FOLDER]))
if __name__ == "__main__":
    main()
