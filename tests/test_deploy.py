"""The deployment: valid for Kubernetes, with the pattern's names and figures, and of one mind with the service."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from feedbackloop.cli import app
from feedbackloop.errors import SettingsError
from feedbackloop.gateway import server
from feedbackloop.gateway.auth import KEY_VARIABLE
from feedbackloop.settings import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def one(kind):
    return next(manifest for manifest in MANIFESTS if manifest["kind"] == kind)


def pod():
    return one("Deployment")["spec"]["template"]["spec"]


def container():
    (found,) = pod()["containers"]
    return found


def environment():
    return {entry["name"]: entry for entry in container()["env"]}


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_the_manifests_are_valid(manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_validation_has_teeth():
    wrong = {**one("Deployment"), "spec": {**one("Deployment")["spec"], "replicsa": 3}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_names_and_figures_are_the_patterns():
    deployment = one("Deployment")
    assert (deployment["metadata"]["name"], deployment["spec"]["replicas"]) == ("ai-service", 3)
    assert container()["resources"] == {
        "requests": {"memory": "512Mi", "cpu": "250m"},
        "limits": {"memory": "1Gi", "cpu": "500m"},
    }
    live = container()["livenessProbe"]
    assert (live["httpGet"], live["initialDelaySeconds"]) == ({"path": "/health", "port": 8000}, 30)
    assert container()["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": 8000}
    secret = environment()["OPENAI_API_KEY"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "ai-secrets", "key": "openai-key"}
    for name in ("FEEDBACKLOOP_STORE", KEY_VARIABLE):
        assert environment()[name]["valueFrom"]["secretKeyRef"]["name"] == "ai-secrets"


def test_labels_and_ports_fit_together():
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert one("Deployment")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert one("Service")["spec"]["selector"].items() <= labels.items()
    assert one("Service")["spec"]["ports"][0]["targetPort"] == container()["ports"][0]["containerPort"] == 8000
    volumes = {volume["name"] for volume in pod()["volumes"]}
    assert {mount["name"] for mount in container()["volumeMounts"]} == volumes


def test_the_service_knows_how_many_replicas_there_are():
    replicas = one("Deployment")["spec"]["replicas"]
    assert environment()[server.REPLICAS_VARIABLE]["value"] == str(replicas)
    environ = {server.REPLICAS_VARIABLE: str(replicas)}
    server.check("postgres:host=db", environ, host="0.0.0.0", key="k")
    with pytest.raises(SettingsError, match="postgres:"):
        server.check("/data/loop.duckdb", environ, host="0.0.0.0", key="k")


def test_there_is_time_to_drain():
    stop = float(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod()["terminationGracePeriodSeconds"] > stop + server.DRAIN_S


def test_nothing_runs_as_root():
    user = re.search(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    assert user
    assert int(user[1]) == pod()["securityContext"]["runAsUser"] > 0
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert container()["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_image_runs_a_command_that_exists_with_extras_that_exist():
    assert 'ENTRYPOINT ["feedbackloop"]' in DOCKERFILE
    command = re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert command
    name, *options = yaml.safe_load(command[1])
    parameters = get_command(app).commands[name].params
    known = {option for parameter in parameters for option in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = re.search(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert wanted
    assert set(wanted[1].split(",")) <= set(extras)
    image = container()["image"].partition(":")[2]
    assert image == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_everything_that_the_wheel_is_built_from_reaches_the_image_and_nothing_else():
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines
    let_in = {line[1:] for line in lines if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], *wheel["force-include"], project["project"]["readme"], "pyproject.toml"} <= let_in
    assert not let_in & {".env", ".git", "tests"}


def test_the_settings_in_the_manifest_are_read(tmp_path):
    (tmp_path / "feedbackloop.toml").write_text(one("ConfigMap")["data"]["feedbackloop.toml"])
    assert Settings.load(tmp_path, {}).limits.timeout_s == 60
