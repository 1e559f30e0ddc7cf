"""Everything that can be wrong before an installation starts: settings, models, training code, features."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from services.alerting import destinations
from services.alerting.destinations import DestinationsError
from services.feature_store import declared_features, definition_faults, repository
from services.feature_store.declared_features import DeclarationFault
from services.feature_store.plan import FeaturePlan, PlanError, View
from services.model_registry import model_card, training_code
from services.operations import schema_checks, server_probes
from services.runtime.declaration import FILE, DeclarationError, ModelDeclaration
from services.runtime.declaration_file import Examined, examine_all, positioned
from services.runtime.settings import Settings
from services.runtime.suggestions import nearest, suggestion
from streams import topics
from streams.schemas import SchemaRegistryUnavailableError

PREFIX = "DRIFTLINE_"
NO_SETTINGS = {
    "DRIFTLINE_ONLINE_STORE": "feature_store.yaml expands it; set it to call feast by hand",
    "DRIFTLINE_SUPERVISORS": "marks what services.operations.local_servers has started",
}
"""Variables with our prefix that are not settings, and their meaning."""


_FAULT = re.compile(r"(?P<file>[^\n]+?):(?P<line>\d+):(?P<column>\d+): (?P<text>.*)", re.DOTALL)


@dataclass
class Findings:
    """What a check has found. A fault with a place is ``file:line:column: text``."""

    well: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, well: list[str], faults: list[str]) -> None:
        """Append what is right and what is wrong."""
        self.well += well
        self.faults += faults

    def document(self) -> dict[str, Any]:
        """Return the same for programs: file, line and column of a fault separately, where it has them."""
        faults = []
        for fault in self.faults:
            found = _FAULT.fullmatch(fault)
            place = (
                {"file": found["file"], "line": int(found["line"]), "column": int(found["column"])}
                if found
                else {}
            )
            faults.append({**place, "text": found["text"] if found else fault})
        return {"valid": not faults, "ok": self.well, "warnings": self.warnings, "faults": faults}


def examined(environment: Mapping[str, str], *, connect: bool) -> Findings:
    """Check everything; with ``connect``, the servers too."""
    found = Findings(faults=unknown_settings(environment))
    settings = _settings(found.faults)
    if settings is None:
        return found
    models = _models(settings, found.faults)
    declarations = {name: one for name, (one, _) in models.items() if one is not None}
    for name, (declaration, faults) in models.items():
        if declaration is not None and not faults:
            found.well.append(summary(declaration))
            found.warnings += deprecations(declaration)
        found.faults += faults
        if declaration is not None:
            found.faults += training_code.faults_of(settings.models, name, _functions_of(declaration))
            found.faults += _positioned(settings, name, _card_faults(declaration))
    _check_routes(settings, declarations, found)
    found.faults += feature_faults(settings, declarations)
    found.add(*schema_findings(settings, declarations, connect=connect))
    if connect:
        found.add(*server_probes.unreachable_servers(settings))
    return found


def unknown_settings(environment: Mapping[str, str], file: Path = Path(".env")) -> list[str]:
    """Return a line for each variable with our prefix that is not a setting: probably misspelt.

    Args:
        environment: The variables of the process.
        file: Where settings are read from, too.
    """
    ours = sorted(name for name in environment if name.upper().startswith(PREFIX))
    faults = [f"{name}: {fault}" for name in ours if (fault := _unknown(name))]
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        name = line.partition("=")[0].removeprefix("export ").strip()
        if name.upper().startswith(PREFIX) and (fault := _unknown(name)):
            faults.append(f"{file}:{number}:{line.index(name) + 1}: {name}: {fault}")
    return faults


def _unknown(name: str) -> str | None:
    known = [*(PREFIX + name.upper() for name in Settings.model_fields), *NO_SETTINGS]
    if name.upper() in known:
        return None
    near = nearest(name.upper(), known)
    return "unknown setting" + (
        f" (did you mean {near}?)" if near else "; docs/reference/settings.md lists them all"
    )


def _settings(faults: list[str]) -> Settings | None:
    """Return the settings, those that are invalid with their defaults; None if that is not possible."""
    try:
        return Settings()
    except ValidationError as error:
        faults += invalid_settings(error)
        names = [str(detail["loc"][0]) for detail in error.errors() if detail["loc"]]
    defaults = {name: Settings.model_fields[name].default for name in names if name in Settings.model_fields}
    with contextlib.suppress(ValidationError):  # the faults say why
        return Settings(**defaults)
    return None


def invalid_settings(error: ValidationError) -> list[str]:
    """Return a line with variable and error for each invalid setting, without the value: it may be secret."""
    return [
        f"{_variable(detail['loc'])}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors()
    ]


def _variable(location: Sequence[int | str]) -> str:
    return PREFIX + str(location[0]).upper().removeprefix(PREFIX) if location else "settings"


def _models(settings: Settings, faults: list[str]) -> Mapping[str, Examined]:
    try:
        return examine_all(settings.models)
    except DeclarationError as error:
        faults.append(str(error))
        return {}


def summary(declaration: ModelDeclaration) -> str:
    """Return one line with the topics that a model joins."""
    service = declaration.features.service
    return (
        f"model {declaration.name}: {declaration.request.topic} -> {topics.predictions(declaration.name)}; "
        f"labels from {declaration.label.topic}; features from the "
        f"{f'service {service}' if service else 'request alone'}"
    )


def deprecations(declaration: ModelDeclaration) -> list[str]:
    """Return a line for each declared key that has no effect any more."""
    if declaration.monitoring.adwin_delta is None:
        return []
    advice = "remove it, or declare adwin in monitoring.detectors"
    return [f"model {declaration.name}: monitoring.adwin_delta has no effect any more; {advice}"]


def _functions_of(declaration: ModelDeclaration) -> list[str]:
    """Return the functions that a model's training.py must define."""
    if not declaration.is_retrained:
        return ["learner"] if declaration.learning else []
    return ["estimator", *(["search_space"] if declaration.retraining.search else [])]


def _card_faults(declaration: ModelDeclaration) -> Iterator[DeclarationFault]:
    """Yield the sections that people write, if no version without them can pass the gates."""
    if declaration.gates is None or not declaration.gates.model_card:
        return
    for section in model_card.declared_sections(declaration):
        if section.is_missing:
            place = (
                ("governance",) if "governance" in declaration.model_fields_set else ("gates", "model_card")
            )
            yield DeclarationFault(
                place, f"the model card has no section {section.title!r}: {section.remedy}"
            )


def _check_routes(settings: Settings, declarations: Mapping[str, ModelDeclaration], found: Findings) -> None:
    """Compare the routes of alerts with the destinations, whose URLs are never printed."""
    try:
        urls = destinations.load(settings)
    except DestinationsError as error:
        found.faults += str(error).splitlines()
        return
    for name, declaration in declarations.items():
        routes = declaration.alerts.routes
        faults = [
            DeclarationFault(
                ("alerts", "routes", number, "to"),
                f"{route.to!r} is not in DRIFTLINE_ALERT_DESTINATIONS{suggestion(route.to, urls)}",
            )
            for number, route in enumerate(routes)
            if urls and route.to not in urls
        ]
        found.faults += _positioned(settings, name, faults)
        if routes and not faults:
            found.well.append(destinations.summary(declaration, urls))


def feature_faults(settings: Settings, declarations: Mapping[str, ModelDeclaration]) -> list[str]:
    """Return what is wrong in the feature repository, and where the declarations do not fit it."""
    is_needed = any(declaration.features.service for declaration in declarations.values())
    plan: FeaturePlan | None = None
    faults: list[str] = []
    if is_needed or (settings.feature_repo / definition_faults.STORE_FILE).is_file():
        try:
            plan = repository.checked(settings)
        except PlanError as error:
            faults += str(error).splitlines()
    for name, declaration in declarations.items():
        faults += _positioned(settings, name, declared_features.all_faults(declaration, plan))
    return faults


def _positioned(
    settings: Settings, model: str, faults: Iterator[DeclarationFault] | Sequence[DeclarationFault]
) -> list[str]:
    return positioned(settings.models / model / FILE, faults)


def schema_findings(
    settings: Settings, declarations: Mapping[str, ModelDeclaration], *, connect: bool
) -> tuple[list[str], list[str]]:
    """Return what is right and what is wrong with the schema registry; with ``connect``, with each schema."""
    views: tuple[View, ...] = ()
    with contextlib.suppress(PlanError):  # not applied yet: setup checks them
        views = tuple(repository.load(settings).views) if connect else ()
    try:
        sources = [view.source for view in views if view.source is not None]
        readers = schema_checks.readings(declarations, sources)
        registry = schema_checks.needed_by(settings, readers)
        if registry is None or not connect:
            return [], []
        return schema_checks.ensure(registry, readers, register=False)
    except (DeclarationError, SchemaRegistryUnavailableError) as error:
        return [], [str(error)]
