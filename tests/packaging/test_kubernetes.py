"""deploy/kubernetes: both variants."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.packaging.dockerfile import only, stages
from tests.support.settings import load_settings
from towline_broker.domain.time import to_seconds
from towline_broker.server.configuration.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
IMAGE = stages(ROOT / "deploy" / "container" / "Dockerfile")[-1]
#: The oldest version that its manifests are for, and a new one.
VERSIONS = ("1.29", "1.37")
VARIANTS = ("embedded", "shared")

Manifest = dict[str, Any]


def manifests(folder: Path) -> Iterator[Manifest]:
    """What the kustomization of a folder is made of, that of its base too."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for name in kustomization["resources"]:
        path = (folder / name).resolve()
        if path.is_dir():
            yield from manifests(path)
        else:
            yield from yaml.safe_load_all(path.read_text())
    for made in kustomization.get("configMapGenerator", []):
        data = {name: (folder / name).read_text() for name in made["files"]}
        metadata = {"name": made["name"]}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def of_kind(variant: str, *kinds: str) -> Manifest:
    (found,) = [each for each in manifests(FOLDER / variant) if each["kind"] in kinds]
    return found


def workload(variant: str) -> Manifest:
    return of_kind(variant, "StatefulSet", "Deployment")


def pod(variant: str) -> Manifest:
    found: Manifest = workload(variant)["spec"]["template"]["spec"]
    return found


def container(variant: str) -> Manifest:
    (found,) = pod(variant)["containers"]
    return dict(found)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "broker.toml"
    path.write_text(of_kind("shared", "ConfigMap")["data"][path.name])
    return load_settings({}, path)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_each_manifest_is_by_the_schema_of_kubernetes(variant: str, version: str) -> None:
    for manifest in manifests(FOLDER / variant):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_every_manifest_belongs_to_a_variant() -> None:
    named = {
        (path.parent / name).resolve()
        for path in FOLDER.rglob("kustomization.yaml")
        for name in yaml.safe_load(path.read_text())["resources"]
    }
    files = {path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml"}
    assert files <= named


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_broker_may_do_what_restricted_pods_may_and_no_more(variant: str) -> None:
    """The policy "restricted" of the Pod Security Standards, and a root that is read-only."""
    found = pod(variant)
    uid, gid = map(int, only(IMAGE, "USER").text.split(":"))
    assert found["automountServiceAccountToken"] is False
    security = found["securityContext"]
    assert security["runAsNonRoot"] is True
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (uid, gid, gid)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(variant)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(found)
    kinds = {kind for volume in found["volumes"] for kind in volume if kind != "name"}
    assert kinds == {"configMap", "secret", "emptyDir"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_broker_has_the_time_to_drain(variant: str, settings: Settings) -> None:
    draining = to_seconds(settings.drain_delay + settings.drain_timeout)
    assert pod(variant)["terminationGracePeriodSeconds"] >= draining + 15
    # So long, at most, it takes until nothing new is sent to it.
    probe = container(variant)["readinessProbe"]
    assert to_seconds(settings.drain_delay) > probe["periodSeconds"] * probe["failureThreshold"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_start_has_more_time_than_it_waits_for_its_store(
    variant: str, settings: Settings
) -> None:
    probe = container(variant)["startupProbe"]
    waits = probe["periodSeconds"] * probe["failureThreshold"]
    assert waits > 2 * to_seconds(settings.wait_for_store)


@pytest.mark.parametrize("variant", VARIANTS)
def test_its_ports_files_and_names_are_those_of_its_settings(
    variant: str, settings: Settings
) -> None:
    found = container(variant)
    ports = {each["name"]: each["containerPort"] for each in found["ports"]}
    assert settings.listen == f"0.0.0.0:{ports['grpc']}"
    assert settings.http.listen == f"0.0.0.0:{ports['http']}"
    service = of_kind(variant, "Service")["spec"]["ports"]
    assert {each["targetPort"]: each["port"] for each in service} == ports
    mounts = {each["mountPath"] for each in found["volumeMounts"]}
    files = (settings.tls.cert, settings.tls.key, settings.auth.tokens)
    assert all(str(file.parent) in mounts for file in files if file is not None)
    assert None not in files
    environment = {each["name"]: each for each in found["env"]}
    assert environment["TOWLINE_CONFIG"]["value"] in mounts
    volumes = {each["name"] for each in pod(variant)["volumes"]}
    claims = {
        each["metadata"]["name"]
        for each in workload(variant)["spec"].get("volumeClaimTemplates", [])
    }
    assert {each["name"] for each in found["volumeMounts"]} == volumes | claims
    assert not settings.insecure


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_that_selects_brokers_selects_those_of_the_variant(variant: str) -> None:
    labels = workload(variant)["spec"]["template"]["metadata"]["labels"]
    spec = workload(variant)["spec"]
    assert spec["selector"]["matchLabels"] == labels
    assert of_kind(variant, "Service")["spec"]["selector"] == labels
    assert of_kind(variant, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    if variant == "shared":
        assert of_kind(variant, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    else:
        assert spec["replicas"] == 1
        assert spec["serviceName"] == of_kind(variant, "Service")["metadata"]["name"]


def test_both_variants_run_the_same_container_but_for_their_store() -> None:
    different = {"env", "volumeMounts"}
    embedded, shared = (
        {key: value for key, value in container(variant).items() if key not in different}
        for variant in VARIANTS
    )
    assert embedded == shared
    (stored,) = [each for each in container("embedded")["env"] if each["name"] == "TOWLINE_STORE"]
    mounts = {each["name"]: each["mountPath"] for each in container("embedded")["volumeMounts"]}
    assert stored["value"].startswith(f"sqlite:///{mounts['store']}/")
