"""What is under `deploy/`, judged by the schemas of those who will read it."""

import copy
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SCHEMA = ROOT / "tests" / "kuberay.schema.json"
KUBERNETES = "1.34.0"
CLOUDS = ("aws", "gcp")
PART = {"app.kubernetes.io/part-of": "mixunlearn"}
GRACE_S = 60  # a sweep stops within 30 seconds

Document = dict[str, Any]


def documents() -> Iterator[tuple[str, Document]]:
    """Yield every object of Kubernetes under `deploy/`, with a name for the test."""
    for path in sorted((DEPLOY / "kuberay").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield f"{path.name}:{document['kind']}", document


def rays() -> list[Any]:
    """Return the objects of KubeRay."""
    found = [(name, item) for name, item in documents() if item["apiVersion"] == "ray.io/v1"]
    return [pytest.param(item, id=name) for name, item in found]


def clusters() -> list[Any]:
    """Return the specification of each Ray cluster on Kubernetes."""
    return [
        pytest.param(item["spec"].get("rayClusterSpec", item["spec"]), id=name)
        for name, item in documents()
        if item["kind"] in {"RayCluster", "RayJob"}
    ]


def templates(value: Any) -> Iterator[Document]:
    """Yield every pod template within a value."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in {"template", "submitterPodTemplate"}:
                yield item
            else:
                yield from templates(item)
    elif isinstance(value, list):
        for item in value:
            yield from templates(item)


def pods() -> list[Any]:
    """Return every pod template under `deploy/`."""
    return [
        pytest.param(template, id=f"{name}:{template['spec']['containers'][0]['name']}")
        for name, document in documents()
        for template in templates(document)
    ]


def cloud(name: str) -> Document:
    config: Document = yaml.safe_load((DEPLOY / f"{name}.yaml").read_text())
    return config


def test_everything_is_looked_at() -> None:
    kinds = {document["kind"] for _, document in documents()}
    assert kinds == {
        *("RayCluster", "RayJob", "CronJob"),
        *("NetworkPolicy", "PersistentVolumeClaim"),
    }
    assert len(pods()) == 6


# --- Ray's launcher, on rented machines


@pytest.mark.parametrize("name", CLOUDS)
def test_the_launcher_of_ray_takes_it(name: str) -> None:
    prepared = prepare_config(copy.deepcopy(cloud(name)))
    validate_config(prepared)
    assert prepared["docker"] == {}
    commands = [*prepared["setup_commands"], *prepared["head_setup_commands"]]
    commands += prepared["worker_setup_commands"]
    # Ray's defaults would install a Ray of their own into the system's Python.
    assert all("pip" not in line or ".venv/bin/pip" in line for line in commands)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_misspelt_key_is_refused(name: str) -> None:
    config = cloud(name)
    config["max_worker"] = config.pop("max_workers")
    error = importlib.import_module("jsonschema").ValidationError  # Ray's; has no types
    with pytest.raises(error, match="max_worker"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_are_rented_when_trials_wait(name: str) -> None:
    config = cloud(name)
    head = config["available_node_types"][config["head_node_type"]]
    worker = config["available_node_types"]["spot"]
    assert head["resources"] == {"CPU": 0}
    assert worker["min_workers"] == 0
    assert 0 < worker["max_workers"] <= config["max_workers"]
    cheap = {"aws": "InstanceMarketOptions", "gcp": "scheduling"}[name]
    assert cheap in worker["node_config"]
    assert cheap not in head["node_config"]


@pytest.mark.parametrize("name", CLOUDS)
def test_the_cloud_is_closed_to_strangers(name: str) -> None:
    config = cloud(name)
    assert "security_group" not in config["provider"]  # it could open more ports than SSH's
    *_, head = config["head_start_ray_commands"]
    *_, worker = config["worker_start_ray_commands"]
    assert "--dashboard-host=127.0.0.1" in head
    for command in (head, worker):
        assert "RAY_AUTH_MODE=token" in command
        assert "--disable-usage-stats" in command
        assert "PATH=$HOME/mixunlearn/.venv/bin:$PATH" in command  # for the command of a job
        assert "\n" not in command
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", CLOUDS)
def test_rented_machines_are_set_up_like_owned_ones(name: str) -> None:
    own = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    config = cloud(name)
    for key in ("file_mounts", "rsync_exclude", "setup_commands", "worker_start_ray_commands"):
        assert config[key] == own[key]


# --- Kubernetes


@pytest.mark.parametrize("document", rays())
def test_kuberay_knows_every_field(document: Document) -> None:
    jsonschema = importlib.import_module("jsonschema")
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("place", ["spec", "head", "job"])
def test_a_field_that_kuberay_does_not_know_is_found(place: str) -> None:
    jsonschema = importlib.import_module("jsonschema")
    found = {item["kind"]: copy.deepcopy(item) for _, item in documents()}
    document = found["RayJob"] if place == "job" else found["RayCluster"]
    target = document["spec"]["headGroupSpec"] if place == "head" else document["spec"]
    target["replica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="replica"):
        jsonschema.validate(document, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("document", [pytest.param(item, id=name) for name, item in documents()])
def test_kubernetes_knows_every_field(document: Document) -> None:
    """Its own kinds whole, and of KubeRay's the pods."""
    reason = "pip install kubernetes-validate: Kubernetes' schemas, 100 MB"
    validator: Any = pytest.importorskip("kubernetes_validate", reason=reason)
    if document["apiVersion"] != "ray.io/v1":
        validator.validate(document, KUBERNETES, strict=True)
    for template in templates(document):
        whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}}
        validator.validate({**whole, "template": template}, KUBERNETES, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    validator: Any = pytest.importorskip("kubernetes_validate")
    (job,) = [copy.deepcopy(item) for _, item in documents() if item["kind"] == "CronJob"]
    job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicies"] = "Never"
    with pytest.raises(validator.ValidationError, match="restartPolicies"):
        validator.validate(job, KUBERNETES, strict=True)


@pytest.mark.parametrize("template", pods())
def test_a_pod_is_small_pinned_and_powerless(template: Document) -> None:
    assert template["metadata"]["labels"] == PART  # or the policy would not protect it
    pod = template["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod.get("hostNetwork")
    for container in pod["containers"]:
        name, _, tag = container["image"].partition(":")
        assert name
        assert tag not in {"", "latest"}
        assert set(container["resources"]["requests"]) >= {"cpu", "memory"}
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        for variable in container.get("env", ()):
            assert "TOKEN" not in variable["name"] or "valueFrom" in variable
            assert "PASSWORD" not in variable["name"]


@pytest.mark.parametrize("spec", clusters())
def test_a_cluster_wants_its_token(spec: Document) -> None:
    assert spec["authOptions"] == {"mode": "token", "secretName": "mixunlearn-token"}


@pytest.mark.parametrize("spec", clusters())
def test_a_cluster_scales_from_nothing(spec: Document) -> None:
    assert spec["enableInTreeAutoscaling"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]


@pytest.mark.parametrize("spec", clusters())
def test_a_pod_that_has_to_go_is_given_time(spec: Document) -> None:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert all(
        group["template"]["spec"]["terminationGracePeriodSeconds"] >= GRACE_S for group in groups
    )


@pytest.mark.parametrize("spec", clusters())
def test_pods_run_the_ray_of_the_constraints(spec: Document) -> None:
    assert f"ray=={spec['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()


def test_nothing_leaves_the_kubernetes_cluster() -> None:
    text = "\n".join(path.read_text() for path in (DEPLOY / "kuberay").iterdir())
    assert not re.search(r"LoadBalancer|NodePort|Ingress\b(?!\])|hostPort|enableIngress", text)
    (policy,) = [item for _, item in documents() if item["kind"] == "NetworkPolicy"]
    assert policy["spec"]["podSelector"] == {"matchLabels": PART}
    inside, operator = policy["spec"]["ingress"]
    assert inside == {"from": [{"podSelector": {"matchLabels": PART}}]}
    assert [port["port"] for port in operator["ports"]] == [8265]


def test_secrets_are_only_referred_to() -> None:
    assert all(document["kind"] != "Secret" for _, document in documents())


def test_the_two_clusters_are_one() -> None:
    first, second = (parameter.values[0] for parameter in clusters())
    assert first == second


def sweeps() -> list[list[str]]:
    """Return the commands of RayJob and CronJob, as words."""
    found = {item["kind"]: item for _, item in documents()}
    template = next(templates(found["CronJob"]))
    (container,) = template["spec"]["containers"]
    return [found["RayJob"]["spec"]["entrypoint"].split(), container["args"]]


@pytest.mark.parametrize("words", sweeps(), ids=["RayJob", "CronJob"])
def test_the_experiment_is_there(words: list[str]) -> None:
    (experiment,) = [word for word in words if word.endswith(".yaml")]
    assert (ROOT / experiment).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("words", sweeps(), ids=["RayJob", "CronJob"])
def test_the_command_line_takes_the_command(words: list[str]) -> None:
    """As far as it goes without a cluster."""
    words = words[words.index("mixunlearn") + 1 :] if "mixunlearn" in words else words
    wrong = [*words, "--set", "nonsense=1"]
    script = "from distributed.cli import main; raise SystemExit(main())"
    run = subprocess.run(
        [sys.executable, "-c", script, *wrong],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "nonsense" in run.stderr


def test_a_stop_reaches_the_sweep_before_its_pod_goes() -> None:
    """The hook ends the process that runs a sweep, and not the shell it runs in itself."""
    (spec, *_) = (parameter.values[0] for parameter in clusters())
    (container,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    if not shutil.which("pkill"):
        pytest.skip("no pkill on this machine; the image has it")
    marker = f"x{os.getpid()}"  # other sweeps may run on this machine
    command = [word.replace("[m]ixunlearn", f"[{marker[0]}]{marker[1:]}") for word in command]
    sweep = subprocess.Popen(["bash", "-c", f"exec -a '{marker} sweep' sleep 60"])
    try:
        subprocess.run(command, check=False, timeout=20, stdout=subprocess.DEVNULL)
        assert sweep.wait(5) == -15
    finally:
        sweep.kill()


# --- the image and the batch script


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    parts = [line.split(maxsplit=1) for line in lines if line.strip()]
    return [(name, rest) for name, rest in parts]


def test_the_image_is_pinned_and_not_roots() -> None:
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base) for base in bases)
    assert [rest for name, rest in instructions() if name == "USER"][-1] == "1000"
    assert "ADD" not in {name for name, _ in instructions()}


def test_the_image_copies_what_exists() -> None:
    copies = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    sources = [source for words in copies if "--from=build" not in words for source in words]
    assert {"constraints.txt", "."} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_holds_neither_secrets_nor_results() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {".git", ".venv", "runs", "**/auth_token"} <= set(ignored)
    kept = "\n".join(rest for name, rest in instructions() if name in {"ARG", "ENV"})
    assert not re.search(r"TOKEN|PASSWORD|SECRET|KEY", kept)


def test_the_batch_script_is_bash_and_asks_slurm_for_a_warning() -> None:
    script = DEPLOY / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, flags=re.MULTILINE))
    assert options["signal"] == "B:TERM@90"
    assert "requeue" in options
    assert "RAY_AUTH_MODE=token" in text
    assert "--include-dashboard=false" in text
    assert "0.0.0.0" not in text
    assert os.access(script, os.X_OK)
