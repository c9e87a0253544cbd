"""`cluster.yaml`, checked with the code of Ray that reads it."""

import copy
import importlib
import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
DOCUMENTATION = ipaddress.ip_network("192.0.2.0/24")  # RFC 5737: never a real machine


@pytest.fixture
def cluster() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return config


def test_the_launcher_of_ray_takes_it(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    (node,) = prepared["available_node_types"].values()
    assert node["min_workers"] == len(cluster["provider"]["worker_ips"])
    assert prepared["docker"] == {}


def test_a_misspelt_key_is_refused(cluster: dict[str, Any]) -> None:
    cluster["setup_command"] = cluster.pop("setup_commands")
    error = importlib.import_module("jsonschema").ValidationError  # Ray's; has no types
    with pytest.raises(error, match="setup_command"):
        validate_config(prepare_config(cluster))


def test_addresses_are_of_nobody(cluster: dict[str, Any]) -> None:
    provider = cluster["provider"]
    addresses = [provider["head_ip"], *provider["worker_ips"]]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(address) in DOCUMENTATION for address in addresses)


def test_what_is_copied_exists_and_is_small(cluster: dict[str, Any]) -> None:
    mounts = cluster["file_mounts"]
    copied = [ROOT / local for local in mounts.values() if not local.startswith("~")]
    assert all(path.exists() for path in copied)
    assert ROOT not in copied  # Ray would hash and copy .venv and runs with it
    assert mounts["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_nodes_install_within_the_constraints(cluster: dict[str, Any]) -> None:
    (install,) = [line for line in cluster["setup_commands"] if "pip install" in line]
    assert "-c constraints.txt" in install
    assert "\n" not in install
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    installed = re.findall(r"\.\[([\w,]+)\]", install)[0].split(",")
    assert set(installed) == set(extras) - {"all", "dev", "docs"}


def test_jobs_find_the_environment(cluster: dict[str, Any]) -> None:
    """Their command is `python …`."""
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "PATH=$HOME/mixunlearn/.venv/bin:$PATH" in cluster[key][-1]


def test_every_worker_is_started(cluster: dict[str, Any]) -> None:
    """Ray's second autoscaler counts the head as one of them."""
    *_, head = cluster["head_start_ray_commands"]
    assert "RAY_enable_autoscaler_v2=0" in head


def test_the_cluster_is_closed_to_strangers(cluster: dict[str, Any]) -> None:
    *_, head = cluster["head_start_ray_commands"]
    *_, worker = cluster["worker_start_ray_commands"]
    assert "--dashboard-host=127.0.0.1" in head
    for command in (head, worker):
        assert "RAY_AUTH_MODE=token" in command
        assert "--disable-usage-stats" in command
        assert "\n" not in command
