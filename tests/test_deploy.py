"""The files under `deploy/`, checked with the schemas of the programs that read them."""

import copy
import fcntl
import importlib
import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from distributed.cluster import checkout
from tests.warm import PARENT

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
NIGHTLY = DEPLOY / "nightly"
PLAN = "experiments/nightly/mnist.yaml"
SCHEMA = ROOT / "tests" / "kuberay.schema.json"
KUBERNETES = "1.34.0"
CLOUDS = ("aws", "gcp", "azure")
PART = {"app.kubernetes.io/part-of": "mixunlearn"}
GRACE_S = 60  # seconds; a sweep and a night stop within 30

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


def test_machines_of_azure_have_the_parameters_of_the_launcher_s_template() -> None:
    """Ray's schema does not check them; Azure refuses a deployment with others."""
    template = Path(ray.__file__).parent / "autoscaler/_private/_azure/azure-vm-template.json"
    known = json.loads(template.read_text())["parameters"]
    for node in cloud("azure")["available_node_types"].values():
        parameters = node["node_config"]["azure_arm_parameters"]
        assert parameters.keys() <= known.keys()
        kinds = {"string": str, "int": int}
        assert all(isinstance(v, kinds[known[k]["type"]]) for k, v in parameters.items())


def test_the_command_that_checks_a_file_tells_right_from_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = runpy.run_path(str(DEPLOY / "check.py"))
    files = [ROOT / "cluster.yaml", *(DEPLOY / f"{name}.yaml" for name in CLOUDS)]
    assert program["main"]([str(file) for file in files]) == 0
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((ROOT / "cluster.yaml").read_text().replace("cluster_name:", "name:"))
    assert program["main"]([str(wrong)]) == 2
    assert f"{wrong}: top level: " in capsys.readouterr().out
    for file in files:  # each says so itself
        assert f".venv/bin/python deploy/check.py {file.relative_to(ROOT)} " in file.read_text()


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_are_rented_when_trials_wait(name: str) -> None:
    config = cloud(name)
    head = config["available_node_types"][config["head_node_type"]]
    worker = config["available_node_types"]["spot"]
    assert head["resources"] == {"CPU": 0}
    assert worker["min_workers"] == 0
    assert 0 < worker["max_workers"] <= config["max_workers"]
    cheap = {"aws": "InstanceMarketOptions", "gcp": "scheduling", "azure": "priority"}[name]
    fields = [node["node_config"] for node in (worker, head)]
    bought, kept = (each.get("azure_arm_parameters", each) for each in fields)
    assert cheap in bought
    assert cheap not in kept


@pytest.mark.parametrize("name", CLOUDS)
def test_the_cloud_is_closed_to_strangers(name: str) -> None:
    config = cloud(name)
    assert "security_group" not in config["provider"]  # it could open more ports than that of SSH
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
    assert template["metadata"]["labels"] == PART  # otherwise the policy would not protect it
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
    (pods_of_operator,) = operator["from"]
    # Its Helm chart and its plain manifests give other labels as well, but not the same ones.
    assert pods_of_operator["podSelector"] == {
        "matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}
    }
    assert inside == {"from": [{"podSelector": {"matchLabels": PART}}]}
    assert [port["port"] for port in operator["ports"]] == [8265]


def test_secrets_are_only_referred_to() -> None:
    assert all(document["kind"] != "Secret" for _, document in documents())


def test_the_two_clusters_are_one() -> None:
    first, second = (parameter.values[0] for parameter in clusters())
    assert first == second


def night_pod() -> Document:
    """Return the pod of the CronJob."""
    (job,) = [item for _, item in documents() if item["kind"] == "CronJob"]
    (template,) = templates(job["spec"]["jobTemplate"]["spec"])
    pod: Document = template["spec"]
    return pod


def night() -> Document:
    """Return the container of the CronJob."""
    (container,) = night_pod()["containers"]
    found: Document = container
    return found


def commands() -> list[list[str]]:
    """Return the commands of RayJob and CronJob, as words."""
    (job,) = [item for _, item in documents() if item["kind"] == "RayJob"]
    return [job["spec"]["entrypoint"].split(), night()["args"]]


@pytest.mark.parametrize("words", commands(), ids=["RayJob", "CronJob"])
def test_the_experiment_is_there(words: list[str]) -> None:
    (experiment,) = [word for word in words if word.endswith(".yaml")]
    assert (ROOT / experiment).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("words", commands()[:1], ids=["RayJob"])
def test_the_command_line_takes_the_command(words: list[str]) -> None:
    """Checks as much as is possible without a cluster."""
    words = words[words.index("mixunlearn") + 1 :] if "mixunlearn" in words else words
    wrong = [*words, "--set", "nonsense=1"]
    script = "from distributed.cli.app import main; raise SystemExit(main())"
    run = subprocess.run(
        [*PARENT.quick, "-c", script, *wrong],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "nonsense" in run.stderr


def test_a_stop_reaches_the_sweep_before_its_pod_goes() -> None:
    """The hook ends the process that runs a sweep, but not the shell that runs the hook."""
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


def test_a_night_joins_the_cluster_and_takes_no_trials() -> None:
    """A driver that gets the address of the GCS needs a node of Ray in its own pod."""
    shell, option, script = night()["command"]
    assert (shell, option) == ("/bin/sh", "-c")
    join, _, rest = script.partition(" && ")
    assert join.startswith("ray start ")
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(join.split())
    (address,) = re.findall(r"--address=(\S+)", join)
    assert f"--address={address}" in night()["args"]
    assert rest == 'exec "$0" "$@"'  # otherwise signals would not reach the night
    done = subprocess.run(
        [shell, "-c", script.replace("ray start", "true"), "printf", "%s ", "one", "two words"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "one two words "


def test_a_night_has_a_home_that_stays_and_secrets_that_may_be_missing() -> None:
    (home,) = [word.partition("=")[2] for word in night()["args"] if word.startswith("--home=")]
    mounts = {mount["mountPath"]: mount["name"] for mount in night()["volumeMounts"]}
    volumes = night_pod()["volumes"]
    claims = {each["name"]: each.get("persistentVolumeClaim") for each in volumes}
    assert claims[mounts[home]] == {"claimName": "mixunlearn-runs"}
    assert all(source["secretRef"]["optional"] for source in night()["envFrom"])


def test_nights_on_kubernetes_neither_overlap_nor_last_for_ever() -> None:
    (spec,) = [item["spec"] for _, item in documents() if item["kind"] == "CronJob"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] > 100  # below 10 the controller may miss every night
    assert schedule(spec["schedule"])
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 0
    assert 0 < job["activeDeadlineSeconds"] < 24 * 3600
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] >= GRACE_S


# --- nights by other schedulers

RANGES = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}
STARS = re.compile(r"(\*|(\d+)(-(\d+))?)(/([1-9]\d*))?")


def schedule(text: str) -> bool:
    """Return whether these are the five fields of cron, in numbers."""
    fields = text.split()
    return len(fields) == len(RANGES) and all(map(field_of_cron, fields, RANGES.values()))


def field_of_cron(field: str, limits: tuple[int, int]) -> bool:
    lowest, highest = limits
    for part in field.split(","):
        match = STARS.fullmatch(part)
        numbers = [int(match[group]) for group in (2, 4) if match[group]] if match else [-1]
        if numbers != sorted(numbers) or not all(lowest <= each <= highest for each in numbers):
            return False
    return True


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("0 1 * * *", True),
        ("*/15 0-6,22 1 1-12/2 7", True),
        ("0 1 * *", False),
        ("0 1 * * * *", False),
        ("60 1 * * *", False),
        ("0 1 0 * *", False),
        ("0 6-1 * * *", False),
        ("0 1 * * */0", False),
        ("@daily", False),
    ],
)
def test_a_schedule_is_told_from_none(text: str, valid: bool) -> None:
    assert schedule(text) == valid


def crontab() -> tuple[dict[str, str], str, str]:
    """Return the settings of the crontab, and schedule and command of its one line."""
    text = (NIGHTLY / "crontab").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
    (line,) = [line for line in lines if not re.match(r"\w+=", line)]
    *fields, command = line.split(maxsplit=5)
    return settings, " ".join(fields), command


def test_the_crontab_is_one_that_cron_reads() -> None:
    settings, times, command = crontab()
    assert schedule(times)
    assert "%" not in command  # cron reads it as a new line
    assert len(command) < 1000  # cron's limit
    assert not any("$" in value for value in settings.values())  # which cron does not expand
    assert settings["CRON_TZ"] == "UTC"
    assert f".venv/bin/mixunlearn nightly {PLAN} " in command


@pytest.mark.parametrize("code", [0, 3])
def test_cron_s_line_logs_a_night_and_tells_its_code(tmp_path: Path, code: int) -> None:
    ran = run_cron_s_line(tmp_path, f"echo home $MIXUNLEARN_HOME, plan $*; exit {code}")
    assert ran == ("" if code == 0 else f"mixunlearn nightly: exit code {code}\n")
    log = (tmp_path / "home" / "nightly.log").read_text()
    assert log == f"home {tmp_path}/home, plan nightly {PLAN}\n"


def test_cron_s_second_night_does_not_begin(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with (tmp_path / "home" / "nightly.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run_cron_s_line(tmp_path, "echo began") == "mixunlearn nightly: exit code 75\n"
    assert (tmp_path / "home" / "nightly.log").read_text() == ""


def run_cron_s_line(folder: Path, script: str) -> str:
    """Run the line as cron does, with a script as the program; return what cron would mail."""
    if not (shutil.which("flock") and shutil.which("timeout")):
        pytest.skip("no flock or timeout on this machine; util-linux and coreutils have them")
    settings, _, command = crontab()
    program = folder / ".venv" / "bin" / "mixunlearn"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    (folder / "home").mkdir(exist_ok=True)
    places = {"MIXUNLEARN_CHECKOUT": str(folder), "MIXUNLEARN_HOME": str(folder / "home")}
    run = subprocess.run(
        [settings["SHELL"], "-c", command],
        check=True,
        env={"PATH": os.environ["PATH"], **settings, **places},
        capture_output=True,
        text=True,
    )
    return run.stdout + run.stderr


def unit(kind: str) -> dict[str, list[str]]:
    """Return the settings of a unit of systemd."""
    found: dict[str, list[str]] = {}
    for line in (NIGHTLY / f"mixunlearn-nightly.{kind}").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            assert "#" not in value  # it would be part of the value
            found.setdefault(key, []).append(value)
    return found


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze on this machine; the package systemd has it")
    assert verified(tmp_path) == ""
    assert "RuntimeMaxSecs" in verified(tmp_path, ("TimeoutStartSec=", "RuntimeMaxSecs="))


def verified(folder: Path, change: tuple[str, str] = ("", "")) -> str:
    """Return systemd's messages about the units, with an existing program and another change."""
    paths = []
    for kind in ("service", "timer"):
        text = (NIGHTLY / f"mixunlearn-nightly.{kind}").read_text().replace(*change)
        paths.append(folder / f"mixunlearn-nightly.{kind}")
        paths[-1].write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.M))
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        check=False,
        capture_output=True,
        text=True,
    )
    # There may be messages about other units of this machine.
    said = (run.stdout + run.stderr).splitlines()
    return "\n".join(line for line in said if "mixunlearn" in line)


def test_the_service_stops_in_order_and_writes_only_its_home() -> None:
    found = {key: values[-1] for key, values in unit("service").items()}
    assert found["ExecStart"] == f"{found['WorkingDirectory']}/.venv/bin/mixunlearn nightly {PLAN}"
    assert found["Type"] == "oneshot"
    assert "RuntimeMaxSec" not in found  # a oneshot has no such limit
    assert found["TimeoutStartSec"] != "infinity"
    assert int(found["TimeoutStopSec"]) >= GRACE_S
    assert (found["KillMode"], found["KillSignal"]) == ("mixed", "SIGTERM")
    assert f"MIXUNLEARN_HOME={found['ReadWritePaths']}" in found["Environment"].split()
    assert found["ProtectSystem"] == "strict"
    assert found["NoNewPrivileges"] == found["PrivateTmp"] == "yes"
    assert found["EnvironmentFile"].startswith("-/")
    assert set(found["SuccessExitStatus"].split()) == {"3", "4"}


def test_the_timer_has_a_zone_and_catches_up() -> None:
    found = {key: values[-1] for key, values in unit("timer").items()}
    assert found["OnCalendar"].endswith(" UTC")
    assert found["Persistent"] == "true"
    assert "RandomizedDelaySec" in found


def workflow() -> Document:
    content: Document = yaml.safe_load((NIGHTLY / "github-workflow.yaml").read_text())
    content["on"] = content.pop(True)  # type: ignore[call-overload] # what YAML 1.1 takes `on` for
    return content


def steps() -> list[Document]:
    (job,) = workflow()["jobs"].values()
    found: list[Document] = job["steps"]
    return found


def test_the_workflow_runs_by_the_clock_and_by_hand() -> None:
    triggers = workflow()["on"]
    assert set(triggers) == {"schedule", "workflow_dispatch"}
    assert all(schedule(each["cron"]) for each in triggers["schedule"])
    assert triggers["workflow_dispatch"]["inputs"]["plan"]["default"] == PLAN
    assert workflow()["concurrency"] == {"group": "nightly", "cancel-in-progress": False}
    assert workflow()["permissions"] == {"contents": "read"}


def test_the_workflow_s_job_stays_on_its_machine_and_ends() -> None:
    (job,) = workflow()["jobs"].values()
    assert "self-hosted" in job["runs-on"]
    assert PLAN in job["env"]["PLAN"]
    (hours,) = re.findall(r" (\d+)h ", next(step["run"] for step in steps() if "id" in step))
    assert job["timeout-minutes"] > 60 * int(hours)  # the night's own limit stops it gracefully


def test_every_step_uses_an_action_of_a_version_or_runs() -> None:
    for step in steps():
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
        else:
            # If typed text were inserted into the script, it would be run.
            assert "${{" not in step["run"]
            subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)


def test_the_workflow_shows_the_page_of_a_night_that_failed() -> None:
    (upload,) = [step for step in steps() if "upload-artifact" in step.get("uses", "")]
    assert upload["if"].startswith("always()")


def test_the_workflow_collects_the_pages_of_this_night(tmp_path: Path) -> None:
    (collect,) = [step["run"] for step in steps() if "cp --parents" in step.get("run", "")]
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    environment = {"MIXUNLEARN_HOME": str(home), "RUNNER_TEMP": str(temporary)}

    def run() -> list[str]:
        both = {"PATH": os.environ["PATH"], **environment}
        subprocess.run(["bash", "-e", "-c", collect], env=both, check=True, capture_output=True)
        night = temporary / "night"
        return sorted(str(path.relative_to(night)) for path in night.rglob("*") if path.is_file())

    (temporary / "began").touch()
    assert run() == []  # bad input, and no home yet
    for date, name in (
        ("2026-11-23", "page.html"),
        ("2026-11-24", "page.html"),
        ("2026-11-24", "m.pt"),
    ):
        path = home / "nightly" / "mnist" / date / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        began = (temporary / "began").stat().st_mtime
        os.utime(path, (began, began + (60 if date == "2026-11-24" else -60)))
    assert run() == ["mnist/2026-11-24/page.html"]


def test_what_must_be_edited_is_marked() -> None:
    files = sorted(NIGHTLY.iterdir())
    assert [path.name for path in files] == [
        *("crontab", "github-workflow.yaml"),
        *("mixunlearn-nightly.service", "mixunlearn-nightly.timer"),
    ]
    assert all("EDIT" in path.read_text() for path in files)


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
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    everything, *others = [line for line in lines if not line.startswith("#")]
    assert everything == "*"  # the last line that matches a file decides
    named = {line.removeprefix("!") for line in others if line.startswith("!")}
    assert {"experiments", "pyproject.toml", *checkout.PROGRAM} <= named
    assert all((ROOT / name).exists() for name in named)
    assert others[len(named) :] == ["**/.*", "**/__pycache__"]
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


def test_shellcheck_finds_nothing_in_the_batch_script() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck on this machine; the package shellcheck has it")
    subprocess.run(["shellcheck", DEPLOY / "slurm.sh"], check=True)


def test_the_batch_script_starts_ray_with_its_cpus_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """The script itself, with stand-ins for SLURM's programs and for those of the checkout."""
    # They tell their words; `srun` runs its command, and Ray runs until the job ends.
    programs = {
        "scontrol": "printf 'n1\\nn2\\n'",
        "srun": 'echo "srun $*" >> told; while [[ $1 == --* ]]; do shift; done; exec "$@"',
        "hostname": "echo 10.0.0.1",
        "ray": 'echo "ray $*" >> told; [[ $1 == health-check ]] || exec sleep 60',
        "mixunlearn": "until [[ $(grep -c '^ray start' told) == 2 ]]; do sleep 0.05; done",
    }
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    token = tmp_path / "token"
    token.write_text("rose")
    job = f"{os.getpid()}"
    environment = {
        "PATH": os.environ["PATH"],
        "RAY_AUTH_TOKEN_PATH": str(token),
        "SLURM_JOB_ID": job,
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_CPUS_PER_TASK": "8",
    }
    own = Path(f"/tmp/mixunlearn-{job}")
    try:
        run = ["bash", str(DEPLOY / "slurm.sh"), "experiment.yaml"]
        subprocess.run(run, env=environment, check=True, capture_output=True, timeout=30)
        assert own.stat().st_mode & 0o777 == 0o700
    finally:
        own.rmdir()
    assert token.stat().st_mode & 0o777 == 0o600
    told = (tmp_path / "told").read_text().splitlines()
    steps = [line for line in told if line.startswith("srun ")]
    assert len(steps) == 3
    assert all("--cpus-per-task=8" in step.split() for step in steps)
    starts = [line for line in told if line.startswith("ray start ")]
    assert all("--num-cpus=8" in start and f"--temp-dir={own}/ray" in start for start in starts)
    assert sorted("--head" in start for start in starts) == [False, True]
