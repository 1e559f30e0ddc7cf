"""Everything that calls Feast: apply the repository, materialise batch views, compile the plan.

Feast takes 1.3 s to import, so only setup and compilation use it; processes load the compiled plan.
"""

import contextlib
import dataclasses
import datetime as dt
import os
import runpy
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from services.feature_store import (
    definition_faults,
    plan_cache,
    registry_place,
    view_compiler,
    view_schemas,
)
from services.feature_store.plan import (
    FeaturePlan,
    PlanError,
    ViewKind,
)
from services.feature_store.typeguard_internals import late_checks

if TYPE_CHECKING:
    from services.runtime.settings import Settings


class Materialization(NamedTuple):
    """What a materialisation of the batch views did."""

    written: list[str]
    """The views that were written."""
    missing: dict[str, Path]
    """Files that do not exist, by view."""


def apply(settings: "Settings") -> FeaturePlan:
    """Register what the repository's files define, like ``feast apply``; return the compiled plan.

    What the files no longer define is deleted from the registry. Raises `PlanError` with a line for each
    fault: ``file:line:column: text``.
    """
    _check_store(settings)
    definitions = _definitions(settings)
    with definition_faults.located(settings.feature_repo):
        view_schemas.complete(definitions, settings.feature_repo)
        with feast_store(settings) as store:
            stale = _stale(store, definitions)
            store.apply(definitions, objects_to_delete=stale, partial=False)
        return compile_plan(settings)


def checked(settings: "Settings") -> FeaturePlan:
    """Return the plan of the repository's files, without a server and without changing what is applied.

    Raises `PlanError` with a line for each fault, as `apply` does.
    """
    _check_store(settings)
    registry = plan_cache.registry_path(settings)
    files = [*settings.feature_repo.glob("*.py"), settings.feature_repo / "feature_store.yaml"]
    changed = max((path.stat().st_mtime for path in files if path.is_file()), default=0)
    if registry.is_file() and registry.stat().st_mtime > changed:
        return load(settings)
    with (
        tempfile.TemporaryDirectory(prefix="driftline-check-") as folder,
        registry_place.instead(Path(folder) / "registry.db"),
    ):
        return apply(settings.model_copy(update={"home": Path(folder)}))


def _check_store(settings: "Settings") -> None:
    """Raise `PlanError` for a feature_store.yaml that cannot be run."""
    if faults := definition_faults.store_faults(settings.feature_repo):
        raise PlanError("\n".join(faults))


def materialize(
    settings: "Settings", end: dt.datetime, start: dt.datetime = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)
) -> Materialization:
    """Let Feast write its batch views to the online store, from their sources, wherever these lie.

    Rows from start to end are written. Views whose file does not exist are left out.
    """
    names = [view.name for view in load(settings).views if view.kind is ViewKind.BATCH]
    if not names:
        return Materialization([], {})
    with feast_store(settings) as store:
        files = {
            name: view_schemas.missing_file(store.get_feature_view(name), settings.feature_repo)
            for name in names
        }
        missing = {name: file for name, file in files.items() if file is not None}
        if written := [name for name in names if name not in missing]:
            store.materialize(
                start_date=start, end_date=end, feature_views=written, disable_event_timestamp=False
            )
    if written:
        compile_plan(settings)  # materialising changes the registry, and with it the digest
    return Materialization(written, missing)


def compile_plan(settings: "Settings") -> FeaturePlan:
    """Compile the registry and store the plan beside it; raise `PlanError` for what cannot be run."""
    with feast_store(settings) as store:
        entities = {entity.name: entity for entity in store.list_entities()}
        faults: list[str] = []
        views = []
        streams = [(view, True) for view in store.list_stream_feature_views()]
        batches = [view for view in store.list_batch_feature_views() if view.batch_source is not None]
        for view, is_stream in [*streams, *((view, False) for view in batches)]:
            with _collected(faults):
                compiled = (
                    view_compiler.stream_view(view, entities) if is_stream else view_compiler.batch_view(view)
                )
                file = view_compiler.batch_file(view, settings)
                views.append(dataclasses.replace(compiled, batch_file=file))
        views.sort(key=lambda view: view.name)
        services, not_run = {}, view_compiler.not_run(store)
        for service in store.list_feature_services():
            with _collected(faults):
                services[service.name] = view_compiler.references(service, not_run)
        materialized = {
            view.name: view_compiler.materialized(view) for view in batches if view.materialization_intervals
        }
        join_keys: dict[str, tuple[str, ...]] = {
            name: (entity.join_key,) for name, entity in entities.items() if name != "__dummy"
        }
        plan = FeaturePlan(store.project, tuple(views), services, materialized, join_keys)
    for topic, readers in plan.by_topic().items():
        if len({view.source for view in readers}) > 1:
            names = ", ".join(view.name for view in readers)
            faults.append(
                f"views {names}: their sources of {topic} must be equal except for the batch source"
            )
    if not faults:
        for name in plan.services:
            with _collected(faults):
                plan.service(name)
    if faults:
        raise PlanError("\n".join(faults))
    plan_cache.store(settings, plan)
    return plan


@contextlib.contextmanager
def _collected(faults: list[str]) -> Iterator[None]:
    """Append what a `PlanError` of the block says, so that all of them are reported at once."""
    try:
        yield
    except PlanError as error:
        faults.append(str(error))


def load(settings: "Settings") -> FeaturePlan:
    """Return the plan of the applied repository; `PlanError` if none has been applied.

    Reads ``feature_plan.json``, or compiles the registry if it has changed since that file was written.
    """
    registry = plan_cache.registry_path(settings)
    if not registry.is_file():
        raise PlanError(
            f"{registry}: there is no Feast registry; apply the repository {settings.feature_repo} first"
        )
    cached = plan_cache.read(registry)
    if cached is not None:
        return cached
    return compile_plan(settings)


def online_store_address(redis_url: str) -> str:
    """Return a Redis URL in Feast's form: ``host:port,db=0,password=...``."""
    url = urlsplit(redis_url)
    options = [f"{url.hostname}:{url.port or 6379}", f"db={url.path.strip('/') or 0}"]
    if url.username:
        options.append(f"username={unquote(url.username)}")
    if url.password:
        options.append(f"password={unquote(url.password)}")
    if url.scheme == "rediss":
        options.append("ssl=true")
    return ",".join(options)


@contextlib.contextmanager
def environment(settings: "Settings") -> Iterator[None]:
    """Set the environment variables that feature_store.yaml and definitions.py expand."""
    variables = {
        "DRIFTLINE_HOME": str(settings.home.resolve()),
        "DRIFTLINE_ONLINE_STORE": online_store_address(settings.redis_url),
        "FEAST_USAGE": "False",
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def feast_store(settings: "Settings") -> Iterator[Any]:
    """Open Feast's `FeatureStore` of the repository."""
    with late_checks():
        from feast import FeatureStore  # late: imports Feast, 1.3 s
        from feast.repo_config import load_repo_config

    settings.home.mkdir(parents=True, exist_ok=True)
    registry = plan_cache.registry_path(settings)
    registry.parent.mkdir(parents=True, exist_ok=True)
    with environment(settings), quiet():
        folder = settings.feature_repo
        config = load_repo_config(folder, folder / definition_faults.STORE_FILE)
        config.registry.path = str(registry)
        yield FeatureStore(repo_path=str(folder), config=config)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Feast's warning that it cannot run stream views: Driftline runs them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="feast")
        warnings.filterwarnings(
            "ignore", message="Stream feature views are experimental", category=RuntimeWarning
        )
        yield


def _definitions(settings: "Settings") -> list[Any]:
    """Run each file of the repository again, so that changes of files or of the home take effect at once."""
    with late_checks():  # late: imports Feast, 1.3 s
        from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView, Project
        from feast.data_source import DataSource

    kinds = (Entity, FeatureService, FeatureView, OnDemandFeatureView, Project, DataSource)
    found: dict[int, Any] = {}
    faults: list[str] = []
    with environment(settings), quiet():
        for path in sorted(settings.feature_repo.glob("*.py")):
            with _collected(faults), definition_faults.located(settings.feature_repo):
                for value in runpy.run_path(str(path)).values():
                    if isinstance(value, kinds):
                        found[id(value)] = value
    if faults:
        raise PlanError("\n".join(faults))
    if not found:
        raise PlanError(f"{settings.feature_repo}: the repository has no file with Feast definitions")
    return list(found.values())


def _stale(store: Any, definitions: Iterable[Any]) -> list[Any]:
    """Return what the registry holds but the files no longer define."""
    from feast.errors import ProjectNotFoundException  # late: imports Feast, 1.3 s

    kept = {(type(value).__name__, value.name) for value in definitions}
    listings = (
        store.list_feature_services,
        store.list_stream_feature_views,
        store.list_batch_feature_views,
        store.list_entities,
    )
    try:
        registered = [value for listing in listings for value in listing()]
    except ProjectNotFoundException:
        return []
    return [
        value
        for value in registered
        if (type(value).__name__, value.name) not in kept and value.name != "__dummy"
    ]
