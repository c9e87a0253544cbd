"""What is under `.github/`, checked against what GitHub reads there."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml"))  # all except config.yml
# The elements of an issue form, and the attributes that GitHub knows for each.
ELEMENTS = {
    "markdown": {"value"},
    "textarea": {"label", "description", "placeholder", "value", "render"},
    "input": {"label", "description", "placeholder", "value"},
    "dropdown": {"label", "description", "multiple", "options", "default"},
    "checkboxes": {"label", "description", "options"},
}

Document = dict[str, Any]


def workflow() -> Document:
    content: Document = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())
    content["on"] = content.pop(True)  # type: ignore[call-overload] # what YAML 1.1 takes `on` for
    return content


def job() -> Document:
    (found,) = workflow()["jobs"].values()
    assert isinstance(found, dict)
    return found


def form(path: Path) -> Document:
    content: Document = yaml.safe_load(path.read_text())
    return content


def test_changes_are_checked_when_they_are_pushed_or_proposed() -> None:
    assert set(workflow()) == {"name", "on", "concurrency", "permissions", "jobs"}
    assert set(workflow()["on"]) == {"push", "pull_request", "workflow_dispatch"}
    assert workflow()["permissions"] == {"contents": "read"}
    assert workflow()["concurrency"]["cancel-in-progress"] is True


def test_the_job_ends_and_runs_on_a_machine_that_is_pinned() -> None:
    assert set(job()) == {"runs-on", "timeout-minutes", "steps"}
    assert re.fullmatch(r"ubuntu-\d\d\.04", job()["runs-on"])
    assert 30 <= job()["timeout-minutes"] <= 360  # GitHub's limit


def test_the_checks_are_those_of_the_script_that_anyone_runs() -> None:
    (command,) = [step["run"] for step in job()["steps"] if "run" in step]
    script = ROOT / command
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    assert {"make check", "make test", "make test-drills"} <= set(lines)


def test_every_action_has_a_version_and_keeps_no_credentials() -> None:
    used = [step for step in job()["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in used)
    (checkout,) = [step for step in used if step["uses"].startswith("actions/checkout@")]
    assert checkout["with"]["persist-credentials"] is False


def test_python_is_the_oldest_that_is_supported_and_the_cache_follows_the_pins() -> None:
    (python,) = [step for step in job()["steps"] if "setup-python" in step.get("uses", "")]
    assert f'requires-python = ">={python["with"]["python-version"]}"' in (
        (ROOT / "pyproject.toml").read_text()
    )
    assert (ROOT / python["with"]["cache-dependency-path"]).is_file()


def test_there_are_forms() -> None:
    assert [path.name for path in FORMS] == ["bug.yml", "feature.yml"]
    chooser = form(GITHUB / "ISSUE_TEMPLATE" / "config.yml")
    assert set(chooser) <= {"blank_issues_enabled", "contact_links"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_github_shows(path: Path) -> None:
    content = form(path)
    assert {"name", "description", "body"} <= set(content)
    assert set(content) <= {"name", "description", "body", "labels", "title", "assignees"}
    assert any(
        element["type"] != "markdown" for element in content["body"]
    )  # otherwise GitHub refuses it
    ids = [element["id"] for element in content["body"] if "id" in element]
    assert len(ids) == len(set(ids))
    for element in content["body"]:
        assert set(element) <= {"type", "id", "attributes", "validations"}
        assert set(element["attributes"]) <= ELEMENTS[element["type"]]
        assert set(element.get("validations", {})) <= {"required"}
        if element["type"] != "markdown":
            assert re.fullmatch(r"[\w-]+", element["id"])
            assert element["attributes"]["label"]
        for option in element["attributes"].get("options", []):
            assert isinstance(option, str)  # a bare Yes is a boolean in YAML


def test_the_commands_and_files_that_the_templates_name_are_there() -> None:
    text = (GITHUB / "PULL_REQUEST_TEMPLATE.md").read_text()
    targets = re.findall(r"`make (\w+)`", text)
    rules = (ROOT / "Makefile").read_text()
    assert targets
    assert all(f"\n{target}:" in rules for target in targets)
    named = re.findall(r"`([\w./]+\.md|\.ci/run)`", text)
    assert all((ROOT / name).is_file() for name in named)
