"""deploy/kubernetes names settings, secrets, paths and code that exist. No cluster runs here."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import yaml

from hl_pipeline.settings import Settings, variable
from hl_pipeline_tests.processes import PROJECT

_PLACE = PROJECT / "deploy" / "kubernetes"
# Made with kubectl, as docs/guides/many-machines.md says.
_SECRETS = {"hl-secrets", "dagster-postgresql-secret"}


def _values() -> dict[str, Any]:
    return yaml.safe_load((_PLACE / "values.yaml").read_text())


def _objects() -> dict[str, Any]:
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in yaml.safe_load_all((_PLACE / "hl.yaml").read_text())}


def test_every_hl_variable_of_the_cluster_is_a_setting_that_is_valid() -> None:
    given = {name: value for name, value in _objects()["ConfigMap/hl-settings"]["data"].items() if name.startswith("HL_")}
    known = {variable(name) for name in Settings.model_fields} | {"HL_SETTINGS_RESOLVED"}

    assert given.keys() <= known
    assert Settings(**{name.removeprefix("HL_").lower(): value for name, value in given.items() if name in known})
    assert given["HL_LAUNCHER"] == "k8s"


def test_every_secret_and_map_that_is_referred_to_exists_and_no_file_has_a_secret() -> None:
    pods = [item["spec"]["template"]["spec"] for item in _objects().values() if item["kind"] in ("Job", "Deployment")]
    sources = [source for pod in pods for container in pod["containers"] for source in container["envFrom"]]
    [code] = _values()["dagster-user-deployments"]["deployments"]
    secrets = {source["secretRef"]["name"] for source in sources if "secretRef" in source}
    secrets |= {source["name"] for source in code["envSecrets"]} | {_values()["global"]["postgresqlSecretName"]}
    maps = {source["configMapRef"]["name"] for source in sources if "configMapRef" in source}
    maps |= {source["name"] for source in code["envConfigMaps"]}

    assert secrets == _SECRETS
    assert maps == {"hl-settings"}
    assert not [key for key in _objects() if key.startswith("Secret/")]
    guide = (PROJECT / "docs/guides/many-machines.md").read_text()
    assert all(f"kubectl create secret generic {name}" in guide for name in _SECRETS)


def test_the_images_are_this_version_and_the_location_is_that_of_the_workspace() -> None:
    pods = [item["spec"]["template"]["spec"] for item in _objects().values() if item["kind"] in ("Job", "Deployment")]
    [code] = _values()["dagster-user-deployments"]["deployments"]
    workspace = yaml.safe_load((PROJECT / "workspace.yaml").read_text())

    tags = {container["image"].rpartition(":")[2] for pod in pods for container in pod["containers"]} | {code["image"]["tag"]}
    assert tags == {version("hl-pipeline")}
    [location] = workspace["load_from"]
    assert code["name"] == location["python_module"]["location_name"]
    assert code["dagsterApiGrpcArgs"] == ["-m", location["python_module"]["module_name"]]


def test_the_cluster_retries_and_limits_runs_as_dagster_yaml_does() -> None:
    ours, values = yaml.safe_load((PROJECT / "dagster.yaml").read_text()), _values()

    assert values["pythonLogs"]["managedPythonLoggers"] == ours["python_logs"]["managed_python_loggers"]
    pools = ours["concurrency"]["pools"]
    of_chart = values["concurrency"]["pools"]
    assert (of_chart["granularity"], of_chart["defaultLimit"]) == (pools["granularity"], pools["default_limit"])
    # As the tags of our launcher: twice, and only what was killed.
    assert values["dagsterDaemon"]["runRetries"] == {"enabled": True, "maxRetries": 2, "retryOnAssetOrOpFailure": False}
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
