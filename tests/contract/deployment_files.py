"""Reads the deployment files for the tests: what each names, and in which file."""

import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from prometheus_client.metrics import MetricWrapperBase
from ruamel.yaml import YAML

from services.runtime import metrics
from services.runtime.settings import ROOT

COMPOSE = ROOT / "docker-compose.yml"
KUSTOMIZATIONS = tuple(sorted((ROOT / "k8s").glob("*/kustomization.yaml")))
NEVER_APPLIED = ROOT / "k8s" / "base" / "secret.example.yaml"
MANIFESTS = tuple(path for path in sorted((ROOT / "k8s").glob("*/*.yaml")) if path not in KUSTOMIZATIONS)


class Object(NamedTuple):
    """One Kubernetes object."""

    file: str
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        """Deployment, Service, ..."""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return str(self.body["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def documents(text: str) -> list[Any]:
    """Read every document of a YAML text; anchors and merge keys are resolved, empty documents dropped."""
    return [document for document in YAML(typ="safe", pure=True).load_all(text) if document is not None]


@functools.cache
def compose() -> dict[str, Any]:
    """Return docker-compose.yml with its anchors resolved. Copy it before a change."""
    (document,) = documents(COMPOSE.read_text(encoding="utf-8"))
    return dict(document)


@functools.cache
def objects() -> list[Object]:
    """Return every object that k8s/ declares, also the example of the secret. Copy one before a change."""
    return [
        Object(str(path.relative_to(ROOT)), body)
        for path in MANIFESTS
        for body in documents(path.read_text(encoding="utf-8"))
    ]


def workloads() -> list[Object]:
    """Return the objects that run pods."""
    kinds = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}
    return [item for item in objects() if item.kind in kinds]


def template_of(workload: Object) -> dict[str, Any]:
    """Return the template of the pods, which a CronJob has inside that of its Jobs."""
    spec = workload.body["spec"]
    return dict(spec.get("jobTemplate", {"spec": spec})["spec"]["template"])


def pod_of(workload: Object) -> dict[str, Any]:
    """Return the pod's specification."""
    return dict(template_of(workload)["spec"])


def containers_of(workload: Object) -> list[dict[str, Any]]:
    """Return all containers of a workload, also those that run first."""
    pod = pod_of(workload)
    return [*pod.get("initContainers", []), *pod["containers"]]


def images() -> Iterator[tuple[str, str]]:
    """Yield (place, image) for everything that is pulled or built on."""
    for name, service in compose()["services"].items():
        yield f"docker-compose.yml: {name}", service["image"]
    for workload in workloads():
        for container in containers_of(workload):
            yield f"{workload.file}: {container['name']}", container["image"]
    for image in re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE):
        yield "Dockerfile", image


def processes() -> tuple[str, ...]:
    """Return the processes: every command that is a ``services.<name>.process``."""
    cli = (ROOT / "services" / "operations" / "cli.py").read_text(encoding="utf-8")
    return tuple(re.findall(r'"services\.(\w+)\.process:run"', cli))


def deployed() -> tuple[str, ...]:
    """Return what is deployed: the processes, and the skew check that goes on beside them."""
    return (*processes(), "skew")


def command_of(process: str) -> list[str]:
    """Return the arguments that start a process."""
    return ["features", "skew", "--every", "60"] if process == "skew" else [process]


def declared_metrics() -> dict[str, str]:
    """Return the type of each metric by its name; a counter has the suffix of its scraped name."""
    families = [
        family
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
        for family in metric.describe()
    ]
    return {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families}
