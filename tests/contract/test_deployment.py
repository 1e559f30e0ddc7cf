"""The deployment files hold, as far as that can be known without Docker and without a cluster."""

import copy
import importlib.util
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from services.operations import cli
from services.operations.project_check import NO_SETTINGS
from services.operations.slo import prometheus_rules
from services.retraining.orchestration import exit_status
from services.runtime.declaration_file import load_all
from services.runtime.settings import ROOT, Settings
from tests.contract.deployment_files import (
    COMPOSE,
    KUSTOMIZATIONS,
    MANIFESTS,
    NEVER_APPLIED,
    Object,
    command_of,
    compose,
    containers_of,
    declared_metrics,
    deployed,
    documents,
    images,
    objects,
    pod_of,
    template_of,
    workloads,
)
from tests.tools import tool

KUBERNETES_VERSIONS = ("1.31", "1.34")
"""The oldest and the newest that we claim."""
SINGLE = {"alerting", "archive", "retraining", "skew"}
"""Processes of which never two may run."""
OBSERVABILITY = tuple(sorted((ROOT / "observability").rglob("*.yml")))


def port_of(process: str) -> int:
    return int(Settings.model_fields[f"{process}_port"].default)


def run(*command: str | Path) -> None:
    result = subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"


def compose_faults(document: dict[str, Any]) -> list[str]:
    """Check against the compose specification that check-jsonschema carries.

    Its own command does not start with the click that Faust needs, so the schema is read from its folder.
    """
    package = importlib.util.find_spec("check_jsonschema")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    return [
        error.message for error in jsonschema.validators.validator_for(schema)(schema).iter_errors(document)
    ]


# --- each file by its own specification


def test_compose_file_meets_the_compose_specification() -> None:
    assert compose_faults(compose()) == []


def test_a_misspelt_key_would_not_meet_the_compose_specification() -> None:
    document = copy.deepcopy(compose())
    document["services"]["scoring"]["healthchek"] = {}
    assert compose_faults(document)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("item", objects(), ids=str)
def test_manifest_meets_the_strict_kubernetes_schema(item: Object, version: str) -> None:
    kubernetes_validate.validate(item.body, version, strict=True)


def test_a_misspelt_key_would_not_meet_the_kubernetes_schema() -> None:
    body = copy.deepcopy(next(item.body for item in objects() if item.kind == "Deployment"))
    body["spec"]["replicsa"] = 2
    with pytest.raises(kubernetes_validate.ValidationError, match="replicsa"):
        kubernetes_validate.validate(body, KUBERNETES_VERSIONS[-1], strict=True)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_kustomization_lists_just_what_is_there(path: Path) -> None:
    (kustomization,) = documents(path.read_text(encoding="utf-8"))
    listed = {(path.parent / name).resolve() for name in kustomization["resources"]}
    assert {item for item in listed if not item.exists()} == set()
    assert {item for item in MANIFESTS if item.parent == path.parent} - {NEVER_APPLIED} <= listed
    assert NEVER_APPLIED not in listed


def test_dockerfile_passes_hadolint() -> None:
    run(tool("hadolint"), "--failure-threshold", "info", "Dockerfile")


def test_ci_script_passes_shellcheck() -> None:
    run(tool("shellcheck"), ".ci/run")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_prometheus_takes_its_configuration_and_rules() -> None:
    run(tool("promtool"), "check", "config", "observability/prometheus.yml")
    run(tool("promtool"), "check", "rules", *(ROOT / "observability" / "rules").glob("*.yml"))


def test_alerts_fire_and_stay_silent_as_their_cases_say() -> None:
    run(tool("promtool"), "test", "rules", *(ROOT / "tests" / "contract").glob("*.promtool.yml"))


def test_rules_of_objectives_are_made_from_the_declarations() -> None:
    made = prometheus_rules.as_yaml(prometheus_rules.document(load_all(ROOT / "models")))
    written = (ROOT / "observability" / "rules" / "slo.yml").read_text(encoding="utf-8")
    assert written == made, "run: driftline slo rules --output observability/rules/slo.yml"


# --- docker compose


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    return dict(service.get("environment", {}))


@pytest.mark.parametrize("process", deployed())
def test_compose_runs_every_process_and_asks_whether_it_is_ready(process: str) -> None:
    service = compose()["services"][process]
    assert service["command"] == command_of(process)
    assert environment_of(service)["HEALTH_URL"] == f"http://127.0.0.1:{port_of(process)}/health/ready"
    assert service["depends_on"]["setup"] == {"condition": "service_completed_successfully"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", sorted(set(compose()["services"]) - {"setup"}))
def test_every_compose_service_has_a_health_check(name: str) -> None:
    service = compose()["services"][name]
    own_image = "build" in service
    assert "healthcheck" in service or (own_image and "HEALTH_URL" in environment_of(service))


def test_image_has_the_health_check_that_compose_relies_on() -> None:
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_compose_waits_only_for_services_that_exist_and_become_healthy() -> None:
    services = compose()["services"]
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            assert other in services, f"{name} waits for {other}"
            assert wait["condition"] == (
                "service_completed_successfully" if other == "setup" else "service_healthy"
            )


def test_compose_publishes_ports_on_this_machine_only() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_compose_declares_every_volume_that_it_mounts() -> None:
    document = compose()
    mounted = {
        volume.split(":")[0]
        for service in document["services"].values()
        for volume in service.get("volumes", [])
    }
    assert {volume for volume in mounted if not volume.startswith(".")} == set(document["volumes"])


# --- Kubernetes


def found(kind: str, name: str) -> Object:
    matches = [item for item in objects() if (item.kind, item.name) == (kind, name)]
    assert len(matches) == 1, f"{kind}/{name}: {len(matches)} of them"
    return matches[0]


@pytest.mark.parametrize("process", deployed())
def test_every_process_has_a_deployment_with_its_probes_and_a_service(process: str) -> None:
    deployment = found("Deployment", process)
    (container,) = pod_of(deployment)["containers"]
    assert container["args"] == command_of(process)
    assert container["ports"] == [{"name": "http", "containerPort": port_of(process)}]
    paths = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    assert paths == {
        "startup": {"path": "/health/live", "port": "http"},
        "liveness": {"path": "/health/live", "port": "http"},
        "readiness": {"path": "/health/ready", "port": "http"},
    }
    assert found("Service", process).body["spec"]["ports"][0]["port"] == port_of(process)


@pytest.mark.parametrize("process", sorted(SINGLE))
def test_a_process_of_which_only_one_may_run_is_never_doubled(process: str) -> None:
    spec = found("Deployment", process).body["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("process", ["features", "scoring", "drift", "learning"])
def test_a_process_with_replicas_rolls_and_survives_a_drain(process: str) -> None:
    spec = found("Deployment", process).body["spec"]
    assert spec["replicas"] >= 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = found("PodDisruptionBudget", process).body["spec"]
    assert budget["selector"] == spec["selector"]
    assert budget["minAvailable"] < spec["replicas"]


@pytest.mark.parametrize("workload", workloads(), ids=str)
def test_pods_run_without_privileges_and_within_bounds(workload: Object) -> None:
    pod = pod_of(workload)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    # Kubernetes would set KAFKA_PORT, which the broker would read as a setting.
    assert pod["enableServiceLinks"] is False
    for container in containers_of(workload):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("workload", workloads(), ids=str)
def test_mounts_and_volumes_of_a_pod_agree(workload: Object) -> None:
    declared = {volume["name"] for volume in pod_of(workload)["volumes"]}
    declared |= {claim["metadata"]["name"] for claim in workload.body["spec"].get("volumeClaimTemplates", [])}
    mounted = {mount["name"] for container in containers_of(workload) for mount in container["volumeMounts"]}
    assert mounted == declared


@pytest.mark.parametrize("item", objects(), ids=str)
def test_every_object_carries_the_recommended_labels(item: Object) -> None:
    labels = item.body["metadata"]["labels"]
    assert {"app.kubernetes.io/name", "app.kubernetes.io/part-of"} <= set(labels)


def test_every_service_selects_the_pods_of_exactly_one_workload() -> None:
    pods = {str(workload): template_of(workload)["metadata"]["labels"] for workload in workloads()}
    for service in (item for item in objects() if item.kind == "Service"):
        selector = service.body["spec"]["selector"].items()
        assert len([name for name, labels in pods.items() if selector <= labels.items()]) == 1, str(service)


@pytest.mark.parametrize("process", deployed())
def test_a_process_that_reads_the_feature_plan_gets_its_registry_first(process: str) -> None:
    sources = (ROOT / "services" / command_of(process)[0]).rglob("*.py")
    readers = re.compile(r"repository\.load\(|model_inputs\.of_model\(")
    reads = any(readers.search(path.read_text(encoding="utf-8")) for path in sources)
    first = [
        container["args"] for container in pod_of(found("Deployment", process)).get("initContainers", [])
    ]
    assert first == ([["setup", "--registry-only"]] if reads else [])


def test_no_secret_is_committed() -> None:
    secrets = [item for item in objects() if item.kind == "Secret"]
    assert {item.file for item in secrets} == {str(NEVER_APPLIED.relative_to(ROOT))}
    values = {name: value for item in secrets for name, value in item.body["stringData"].items()}
    hidden = {value for name, value in values.items() if "SASL_" in name or name.endswith(".pem")}
    assert hidden == {"replace-me"}


def test_only_retraining_has_the_key_that_signs() -> None:
    """What answers requests could otherwise vouch for whatever it is made to load."""
    for item in workloads():
        secrets = {volume.get("secret", {}).get("secretName") for volume in pod_of(item)["volumes"]}
        trains = item.name in {"retraining", "retraining-steps"}
        assert ("driftline-signing" in secrets) == trains, str(item)
    services = compose()["services"].items()
    holders = {name for name, service in services if "signing:" in str(service.get("volumes", []))}
    assert holders == {"setup", "retraining"}


def test_a_job_of_a_retraining_runs_when_asked_and_repeats_outages_only() -> None:
    """Its name is the id of the request: a pod that is started again makes no second version."""
    job, process = found("CronJob", "retraining-steps"), pod_of(found("Deployment", "retraining"))
    assert job.body["spec"]["suspend"] is True
    (container,) = pod_of(job)["containers"]
    cli.application().parse_args(container["args"], print_error=False, exit_on_error=False)
    assert container["args"][:2] == ["retraining", "run"]
    assert "$(REQUEST_ID)" in container["args"]
    (rule,) = job.body["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    codes = {"containerName": container["name"], "operator": "In", "values": [1]}
    assert rule == {"action": "FailJob", "onExitCodes": codes}
    assert exit_status.OUTAGE not in codes["values"]
    assert pod_of(job)["initContainers"] == process["initContainers"]
    mounts = [each["volumeMounts"] for each in (container, process["containers"][0])]
    assert mounts[0] == mounts[1]


@pytest.mark.parametrize("process", ["scoring", "retraining"])
def test_whoever_loads_versions_has_the_public_keys(process: str) -> None:
    """Mounted where the settings say; without them every version would be refused."""
    (container,) = pod_of(found("Deployment", process))["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    settings = (ROOT / "k8s" / "base" / "kustomization.yaml").read_text(encoding="utf-8")
    assert f"DRIFTLINE_VERIFYING_KEYS={mounts['verifying']}" in settings


# --- across the files


def test_every_image_is_pinned_by_tag() -> None:
    for place, image in images():
        _, _, tag = image.rpartition("/")[2].partition(":")
        assert tag, f"{place}: {image} has no tag"
        assert tag != "latest", place


def test_our_own_image_has_the_version_of_the_project_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    ours = {image for _, image in images() if image.startswith("driftline:")}
    assert ours == {f"driftline:{version}"}


def test_an_image_used_in_several_places_is_the_same() -> None:
    tags: dict[str, set[str]] = {}
    for _, image in images():
        name, _, tag = image.partition(":")
        tags.setdefault(name, set()).add(tag)
    assert {name: found_tags for name, found_tags in tags.items() if len(found_tags) > 1} == {}


def files_with_variables() -> list[Path]:
    folders = (
        "streams",
        "services",
        "models",
        "feature_repo",
        "docs",
        "k8s",
        "observability",
        ".ci",
    )
    kinds = {".py", ".md", ".yaml", ".yml", ".html", ".js", ""}
    inside = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in kinds and path.is_file()
    ]
    top = ("Dockerfile", "Makefile", "README.md", "CHANGELOG.md", "pyproject.toml")
    return [COMPOSE, *(ROOT / name for name in top), *inside]


def test_every_variable_that_is_named_anywhere_is_a_setting() -> None:
    known = {f"DRIFTLINE_{name.upper()}" for name in Settings.model_fields} | NO_SETTINGS.keys()
    unknown = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files_with_variables()
        for name in re.findall(r"\bDRIFTLINE_[A-Z][A-Z_]*", path.read_text(encoding="utf-8"))
        if name not in known
    }
    assert unknown == set()


def test_prometheus_asks_every_process_on_its_port() -> None:
    (document,) = documents((ROOT / "observability" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = (job for job in document["scrape_configs"] if job["job_name"] == "driftline")
    asked = {group["labels"]["process"]: group["targets"] for group in job["static_configs"]}
    for found in job["dns_sd_configs"]:  # its relabelling makes the process of the name
        asked |= {name: [f"{name}:{found['port']}"] for name in found["names"]}
    assert asked == {process: [f"{process}:{port_of(process)}"] for process in deployed()}


def test_every_metric_that_an_alert_or_a_panel_names_is_declared() -> None:
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    series = {
        name + suffix for name, kind in declared_metrics().items() for suffix in suffixes.get(kind, ("",))
    }
    for path in OBSERVABILITY:
        named = set(re.findall(r"\bdriftline_[a-z_]+", path.read_text(encoding="utf-8")))
        assert named <= series, f"{path.relative_to(ROOT)}: {named - series}"
