"""``driftline setup``: everything that must exist before the processes start. Safe to repeat."""

import datetime as dt
from typing import Annotated

from cyclopts import Parameter
from kafka.errors import KafkaError

from services.feature_store import repository
from services.feature_store.plan import FeaturePlan, PlanError
from services.model_registry import signing
from services.operations import schema_checks
from services.runtime.command_output import fail, ok, warn
from services.runtime.declaration import DeclarationError
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import TopicsError, ensure_topics
from streams.schemas import SchemaRegistryUnavailableError


def setup(*, registry_only: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Apply the Feast repository, generate the signing key, create the topics, materialise the batch views.

    Args:
        registry_only: Only apply the repository. Feast's registry is a file in the home folder, so each
            machine with a separate home folder needs this before its processes start.
    """
    settings = Settings()
    try:
        plan = repository.apply(settings)
        ok(f"applied {len(plan.views)} feature views to {settings.home.resolve()}")
        if not registry_only:
            _make_key(settings)
            _make_topics(settings, plan)
            _register_schemas(settings, plan)
            _materialize(settings)
    except KafkaError as error:
        fail(f"Kafka at {settings.broker}: {error}: try 'driftline check --connect'")
    except (
        DeclarationError,
        PlanError,
        SchemaRegistryUnavailableError,
        TopicsError,
        signing.SigningError,
    ) as error:
        fail(str(error))


def _make_topics(settings: Settings, plan: FeaturePlan) -> None:
    declarations = load_all(settings.models)
    internal = [view.name for view in plan.views if view.is_repartitioned]
    ensure_topics(settings, declarations, applications=list(plan.by_topic()), views=internal)
    ok(f"the topics of {', '.join(declarations)} exist")


def _register_schemas(settings: Settings, plan: FeaturePlan) -> None:
    """Register the declared schemas of topics without one; exit with a line for each schema that differs."""
    sources = [view.source for view in plan.views if view.source is not None]
    readers = schema_checks.readings(load_all(settings.models), sources)
    registry = schema_checks.needed_by(settings, readers)
    if registry is None:
        return
    well, faults = schema_checks.ensure(registry, readers, register=True)
    for line in well:
        ok(line)
    if faults:
        fail(*faults)


def _make_key(settings: Settings) -> None:
    if signing.are_provided(settings):
        ok("versions are signed with the keys of the settings")
    else:
        ok(f"versions are signed with the key {signing.ensure_key(settings)}")


def _materialize(settings: Settings) -> None:
    """Let Feast write its batch views whose sources exist; say which do not."""
    done = repository.materialize(settings, dt.datetime.now(dt.UTC))
    if done.written:
        ok(f"materialised the batch views {', '.join(done.written)}")
    for view, file in done.missing.items():
        warn(
            f"view {view}: its file {file} does not exist: its features will be missing until the next setup"
        )
