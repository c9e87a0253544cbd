"""What a cluster gets: what git tracks and what was asked for, from a real checkout of git."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from distributed.cluster import checkout
from mixunlearn.errors import InputError, MixUnlearnError

SECRETS = ["prod.env", ".netrc", ".npmrc", "id_rsa", ".aws/credentials", "credentials.json"]
SECRETS += ["kubeconfig", "client.p12", "mixunlearn/.env"]


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True)


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of git with two tracked files and many secrets."""
    folder = tmp_path / "checkout"
    write(folder, "mixunlearn/losses.py", "pyproject.toml", "gone.py")
    git(tmp_path, "init", "-q", str(folder))
    git(folder, "add", ".")
    (folder / "gone.py").unlink()
    write(folder, *SECRETS)
    monkeypatch.setattr(checkout, "ROOT", folder)
    monkeypatch.chdir(folder)
    return folder


def names(*asked: str) -> list[str]:
    with checkout.archive([Path(name) for name in asked]) as path, zipfile.ZipFile(path) as made:
        return sorted(made.namelist())


TRACKED = ["mixunlearn/losses.py", "pyproject.toml"]


def test_only_what_git_tracks_is_shipped(root: Path) -> None:
    assert names() == TRACKED
    write(root, "new model.py")
    git(root, "add", "-N", "new model.py")  # no commit is needed
    assert names() == [*TRACKED[:1], "new model.py", *TRACKED[1:]]
    (root / "pyproject.toml").write_text("changed")
    with checkout.archive() as path, zipfile.ZipFile(path) as made:
        assert made.read("pyproject.toml") == b"changed"
    assert not path.exists()


def test_the_same_files_are_the_same_archive(root: Path) -> None:
    """Ray names a package by its digest, and does not send what a cluster has."""
    with checkout.archive() as path:
        before = path.read_bytes()
    (root / "pyproject.toml").touch()
    with checkout.archive() as path:
        assert path.read_bytes() == before


def test_what_is_asked_for_is_shipped_as_well(root: Path) -> None:
    write(root, "own.py", "mine/a.py", "mine/__pycache__/a.pyc")
    assert names("own.py", "mine") == sorted([*TRACKED, "own.py", "mine/a.py"])
    assert names(str(root / "own.py")) == sorted([*TRACKED, "own.py"])
    for outside in ("..", "../other.py", ".", "/etc/hostname"):
        with pytest.raises(InputError, match=r"--ship.*can be shipped"):
            names(outside)
    with pytest.raises(InputError, match=r"--ship = 'missing.py': no such file"):
        names("missing.py")


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "prod.env", "nowhere", "..", "."])
def test_a_link_to_what_is_not_shipped_is_refused(root: Path, target: str) -> None:
    write(root.parent, "secret")
    (root / "link").symlink_to(target)
    assert names() == TRACKED
    if target != "nowhere":
        with pytest.raises(InputError, match=r"checkout = 'link.*: a link to what is not shipped"):
            names("link")
    git(root, "add", "link")
    with pytest.raises(InputError, match="checkout = 'link': a link to what is not shipped"):
        names()


def test_a_folder_that_became_a_link_is_refused(root: Path) -> None:
    (root / "mixunlearn" / "losses.py").unlink()
    (root / "mixunlearn" / ".env").unlink()
    (root / "mixunlearn").rmdir()
    write(root.parent, "other/losses.py")
    (root / "mixunlearn").symlink_to(root.parent / "other")
    with pytest.raises(InputError, match="a link to what is not shipped"):
        names()


def test_a_link_to_what_is_shipped_is_its_content(root: Path) -> None:
    (root / "link").symlink_to("pyproject.toml")
    with checkout.archive([Path("link")]) as path, zipfile.ZipFile(path) as made:
        assert made.read("link") == b"pyproject.toml"


def test_without_git_the_program_alone_is_shipped(root: Path) -> None:
    (root / ".git").rename(root / "git")
    write(root, "report/page.css", "report/__pycache__/page.pyc")
    (root / "mixunlearn" / ".env").unlink()
    assert names() == ["mixunlearn/losses.py", "report/page.css"]


def test_a_git_that_fails_is_one_line(root: Path) -> None:
    (root / ".git" / "index").write_text("nonsense")
    with pytest.raises(MixUnlearnError, match=r"git fails: .*must work here") as caught:
        names()
    assert "\n" not in str(caught.value)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that was installed from a wheel, and the user's folder; both below one of git."""
    git(tmp_path, "init", "-q", ".")
    library = tmp_path / ".venv" / "mixunlearn"
    write(library, "losses.py", "_program/distributed/plan.py", "_program/pyproject.toml")
    write(library, "_program/experiments/a.yaml", "_program/report/__pycache__/page.pyc")
    (tmp_path / "elsewhere.py").write_text("some installers make links to their cache")
    (library / "linked.py").symlink_to(tmp_path / "elsewhere.py")
    write(tmp_path / "work", "mine.yaml", "secret.env", "distributed/plan.py", "experiments/a.yaml")
    monkeypatch.setattr(checkout, "ROOT", library / "_program")
    monkeypatch.chdir(tmp_path / "work")
    return library


OF_WHEEL = ["distributed/plan.py", "experiments/a.yaml", "mixunlearn/linked.py"]
OF_WHEEL += ["mixunlearn/losses.py", "pyproject.toml"]


def test_a_wheel_is_shipped_as_a_checkout(wheel: Path) -> None:
    assert names() == OF_WHEEL
    assert names("mine.yaml") == sorted([*OF_WHEEL, "mine.yaml"])
    assert names(str(wheel / "_program" / "experiments" / "a.yaml")) == OF_WHEEL
    with checkout.archive([Path("experiments/a.yaml")]) as path, zipfile.ZipFile(path) as made:
        assert made.namelist() == OF_WHEEL  # the user's own, in place of the preset
    for outside in ("..", "../elsewhere.py", "."):
        with pytest.raises(InputError, match=r"--ship.*can be shipped"):
            names(outside)
    with pytest.raises(InputError, match="the program has a file of this name"):
        names("distributed")


def test_names_on_a_cluster(wheel: Path) -> None:
    assert checkout.name_there(Path.cwd() / "mine.yaml") == "mine.yaml"
    assert checkout.name_there(wheel / "_program/experiments/a.yaml") == "experiments/a.yaml"
    assert checkout.name_there(wheel / "losses.py") is None


def test_a_wheel_is_of_no_commit(wheel: Path) -> None:
    """Its virtual environment is often in a repository of something else."""
    with pytest.raises(FileNotFoundError):
        checkout.git("status")
