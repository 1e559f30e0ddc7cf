"""The console command ``driftline``. Each process is imported only when it is started."""

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

from streams import garbage

if TYPE_CHECKING:
    from collections.abc import Callable

    from cyclopts import App

    app: App

SUMMARY = "Real-time inference and drift monitoring on Kafka, with Feast features and MLflow models."
VERSION = "0.1.0"
COMMANDS = (
    ("demo", "services.demo.command:demo", "Run the whole system on a year of flights, or on payments."),
    (
        "init",
        "services.operations.init_command:init",
        "Make a folder for a model of one's own, from a template.",
    ),
    (
        "up",
        "services.operations.local_servers.command:up",
        "Run Kafka, Valkey and MLflow on this machine, without Docker.",
    ),
    ("run", "services.operations.run_command:run", "Run the processes that the declared models need."),
    (
        "features",
        "services.features.process:run",
        "Compute windowed features from events, into the online store.",
    ),
    ("features replay", "services.features.replay:replay", "Rebuild feature views from their sources."),
    (
        "features backfill",
        "services.features.offline.backfill_command:backfill",
        "Compute features from archived events, into Feast's batch sources.",
    ),
    (
        "features skew",
        "services.features.offline.skew_command:skew",
        "Compare the served feature values with recomputed ones.",
    ),
    ("scoring", "services.scoring.process:run", "Answer prediction requests from Kafka and over HTTP."),
    (
        "drift",
        "services.drift.process:run",
        "Join predictions with labels; write outcomes, drift reports and alarms.",
    ),
    (
        "drift report",
        "services.operations.drift_report:report",
        "Write the report of a window, as a page or as JSON.",
    ),
    (
        "alerting",
        "services.alerting.process:run",
        "Send alarms, retrainings and rollbacks as alerts to destinations.",
    ),
    ("alerts", "services.alerting.command:show", "Show the alerts that were sent, and the silences."),
    ("alerts list", "services.alerting.command:show", "Show the alerts that were sent, with filters."),
    (
        "alerts silence",
        "services.alerting.command:silence",
        "Send no alerts that match a filter, for a time.",
    ),
    ("alerts silences", "services.alerting.command:silences", "Show the active silences."),
    ("alerts end", "services.alerting.command:end", "End a silence before its time."),
    ("alerts test", "services.alerting.command:test", "Send a test message to a destination."),
    ("slo", "services.operations.slo.command:status", "Show how much of each error budget is left."),
    ("slo status", "services.operations.slo.command:status", "Show how much of each error budget is left."),
    (
        "slo rules",
        "services.operations.slo.command:rules",
        "Write Prometheus rules of burn rates from the declared objectives.",
    ),
    ("learning", "services.learning.process:run", "Let models learn online from predictions and labels."),
    ("archive", "services.archive.process:run", "Copy topics into Delta tables."),
    (
        "retraining",
        "services.retraining.process:run",
        "Train a new version on request; promote it if it passes the gates.",
    ),
    (
        "data",
        "services.retraining.reproduce_command:data",
        "List the versions of the models with the data of each.",
    ),
    (
        "data get",
        "services.retraining.reproduce_command:get",
        "Write the rows that a version was trained on as a Parquet file.",
    ),
    (
        "reproduce",
        "services.retraining.reproduce_command:reproduce",
        "Train a version again, and compare data and scores.",
    ),
    (
        "retrain",
        "services.retraining.retrain_command:retrain",
        "Ask for a new version of a model, also for its first one.",
    ),
    (
        "retraining step",
        "services.retraining.step_command:step",
        "Run one step of a retraining in its run folder.",
    ),
    (
        "retraining prepare",
        "services.retraining.orchestration.steps_command:prepare",
        "Make the run folder of a retraining outside of the service.",
    ),
    (
        "retraining run",
        "services.retraining.orchestration.steps_command:run",
        "Run all steps of a retraining here, and submit its version.",
    ),
    (
        "retraining submit",
        "services.retraining.orchestration.steps_command:submit",
        "Ask the service to release the version of a run folder.",
    ),
    (
        "retraining dvc",
        "services.retraining.orchestration.dvc_command:dvc",
        "Write a dvc.yaml with one stage for each step into a run folder.",
    ),
    (
        "rollout",
        "services.rollout.process:run",
        "Lead new versions from shadow over canary shares to champion, or back.",
    ),
    (
        "rollback",
        "services.operations.models.rollout_command:rollback",
        "Put the version before back at once, or end a rollout.",
    ),
    ("dashboard", "services.dashboard.process:run", "Serve the live page."),
    ("setup", "services.operations.setup:setup", "Create the topics and apply the Feast repository."),
    (
        "models",
        "services.operations.models.versions_command:models",
        "Show the registered versions and their signatures.",
    ),
    (
        "models register",
        "services.operations.models.versions_command:register",
        "Register a model that was trained elsewhere as a signed version.",
    ),
    ("ledger", "services.operations.governance.ledger_command:show", "Show who or what decided what."),
    (
        "ledger list",
        "services.operations.governance.ledger_command:show",
        "Show the entries of the ledger, with filters.",
    ),
    (
        "ledger verify",
        "services.operations.governance.ledger_command:verify",
        "Check that no entry of the ledger was changed.",
    ),
    (
        "approve",
        "services.operations.governance.approvals_command:approve",
        "Approve a version of a model, with a reason.",
    ),
    (
        "reject",
        "services.operations.governance.approvals_command:reject",
        "Reject a version of a model, with a reason.",
    ),
    (
        "review",
        "services.operations.governance.approvals_command:review",
        "Record that a person has reviewed a model.",
    ),
    (
        "models card",
        "services.operations.governance.card_command:card",
        "Make, store and show the model card of a version.",
    ),
    (
        "inventory",
        "services.operations.governance.inventory_command:inventory",
        "Show all models: owner, risk, serving version, card, approvals, last review.",
    ),
    (
        "explain-prediction",
        "services.operations.governance.prediction_command:explain",
        "Show the version, features, data and decisions behind a prediction.",
    ),
    (
        "erase",
        "services.operations.erasure.command:erase",
        "Remove all data of one subject, and say what Kafka still holds until when.",
    ),
    (
        "dead-letters",
        "services.operations.dead_letters.command:show",
        "Show the records that could not be processed.",
    ),
    (
        "dead-letters list",
        "services.operations.dead_letters.command:show",
        "Show these records, with filters.",
    ),
    (
        "dead-letters replay",
        "services.operations.dead_letters.command:replay",
        "Write these records back to their topic and partition.",
    ),
    (
        "models list",
        "services.operations.models.arms_command:show",
        "Show which versions score, of one model or of all.",
    ),
    (
        "models rollout",
        "services.operations.models.rollout_command:rollout",
        "Request the rollout of a version.",
    ),
    (
        "models rollouts",
        "services.operations.models.rollout_command:show",
        "Show the rollouts of a model, with the evidence of each decision.",
    ),
    ("models champion", "services.operations.models.arms_command:champion", "Make a version the champion."),
    (
        "models release",
        "services.operations.models.rollout_command:release",
        "Let learned versions become the champion again after a rollback.",
    ),
    (
        "models share",
        "services.operations.models.arms_command:share",
        "Let a version score a share of the keys.",
    ),
    (
        "models shadow",
        "services.operations.models.arms_command:shadow",
        "Let a version score as a shadow.",
    ),
    (
        "models end",
        "services.operations.models.arms_command:end",
        "End an arm; its share returns to the champion.",
    ),
    ("asyncapi", "services.operations.asyncapi:asyncapi", "Write the AsyncAPI document of all topics."),
    ("check", "services.operations.check:check", "Check settings, models, training code and features."),
    ("schema", "services.operations.schema_command:schema", "Write the JSON Schema of model.yaml."),
    ("doctor", "services.operations.doctor:doctor", "Look at servers, topics, clock, disk and packages."),
)
"""Name, target and text. A name of two words is a subcommand; its parent is also a command."""
WITHOUT_OPTIONS = frozenset({"alerting", "archive", "dashboard", "learning", "rollout"})
"""Subcommands and commands without parameters: their ``--help`` need not import a slow process."""


def main() -> None:
    """Run the command line."""
    garbage.collect_rarely()
    arguments = sys.argv[1:]
    if arguments in ([], ["-h"], ["--help"]):
        # The overview needs no parser: importing cyclopts and rich would take ten times as long.
        sys.stdout.write(overview())
    elif arguments == ["--version"]:
        sys.stdout.write(f"{VERSION}\n")
    elif not arguments[0].startswith("-") and arguments[0] not in first_words():
        sys.exit(unknown(arguments[0]))
    else:
        from services.runtime import logs  # late: --help needs no log

        logs.to_standard_error()
        application()(arguments)


def overview() -> str:
    """Return the text of ``driftline --help``."""
    rows = [(name, text) for name, _, text in COMMANDS]
    rows += [
        ("--help, -h", "Show this text; after a command, its options."),
        ("--version", "Show the version."),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {text}" for name, text in rows]
    return "\n".join(["Usage: driftline COMMAND [OPTIONS]", "", SUMMARY, "", "Commands:", *lines, ""])


def first_words() -> list[str]:
    """Return the possible first arguments."""
    return [name for name, _, _ in COMMANDS if " " not in name]


def unknown(command: str) -> str:
    """Return the message for a command that does not exist; cyclopts would import all that do."""
    from services.runtime.suggestions import nearest  # late: every command would pay for difflib

    near = nearest(command, first_words())
    hint = f"did you mean {near}?" if near else "see driftline --help"
    return f"driftline: there is no command {command!r}; {hint}"


@functools.cache
def application() -> "App":
    """Return the cyclopts application with all commands, which are imported when they run."""
    from cyclopts import App

    result = App(name="driftline", help=SUMMARY, version=VERSION)
    parents = {name.partition(" ")[0] for name, _, _ in COMMANDS if " " in name}
    for name, target, text in COMMANDS:
        parent, _, own = name.rpartition(" ")
        if name in parents:
            result.command(App(name=name, help=text, default_command=_starter(target)))
        else:
            command = _starter(target) if name in WITHOUT_OPTIONS else target
            (result[parent] if parent else result).command(command, name=own, help=text)
    return result


def _starter(target: str) -> "Callable[[], None]":
    """Return a command without options that imports its target only when it is run."""

    def start() -> None:
        module, _, function = target.partition(":")
        getattr(importlib.import_module(module), function)()

    return start


def __getattr__(name: str) -> Any:
    """Make ``services.operations.cli.app`` at its first use, for tools that want the application."""
    if name == "app":
        return application()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    main()
