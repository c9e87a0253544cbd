"""Presets by name, and their copies."""

from pathlib import Path

import pytest

from distributed.config.comparison import read_comparison
from distributed.config.nightly import read_nightly
from distributed.config.presets import PRESETS, about, copy_preset, named_file, names_file, presets
from distributed.config.read import read_experiment
from mixunlearn.errors import InputError, MixUnlearnError
from tests.fixtures import Command


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "word", ["mnist_class", "mnist_class.yaml", "experiments/mnist_class.yaml"]
)
def test_a_preset_is_found_by_name(word: str) -> None:
    assert named_file(Path(word)) == PRESETS / "mnist_class.yaml"
    assert names_file(word)


def test_a_file_of_the_user_comes_first(empty: Path) -> None:
    (empty / "mnist_class").mkdir()  # a folder is no experiment
    assert named_file(Path("mnist_class")) == PRESETS / "mnist_class.yaml"
    (empty / "experiments").mkdir()
    mine = Path("experiments/mnist_class.yaml")
    mine.write_text("name: mine\n")
    assert named_file(mine) == mine


@pytest.mark.parametrize("word", ["mnist", "../mnist_class", "/mnist_class", "", "mnist-class-12"])
def test_other_words_mean_what_they_say(word: str) -> None:
    assert named_file(Path(word)) == Path(word)
    assert not names_file(word)


def test_all_presets_can_be_read_by_name() -> None:
    assert {"mnist_class", "digits_ids"} <= presets("").keys()
    for name in presets(""):
        assert read_experiment(Path(name))
    for name in presets("small", "paper"):
        assert read_comparison(Path(name))
    for name in presets("nightly"):
        assert read_nightly(Path(name))
    assert all(about(path) for path in presets("", "small", "paper", "nightly").values())


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"did you mean 'mnist_class'\? There are: cifar10_class,"):
        read_experiment(Path("mnist_clas"))
    with pytest.raises(InputError, match=r"There are: nightly/digits, nightly/mnist$"):
        read_nightly(Path("gone.yaml"))
    with pytest.raises(InputError, match="no such preset; did you mean 'mnist_class'"):
        copy_preset("mnist_clas", Path())


def test_a_preset_is_copied_but_never_over_a_file(mixunlearn: Command, empty: Path) -> None:
    assert mixunlearn("init", "mnist_class").out == "mnist_class.yaml\n"
    copy = empty / "mnist_class.yaml"
    assert copy.read_bytes() == (PRESETS / "mnist_class.yaml").read_bytes()
    copy.write_text("name: mine\n")
    refused = mixunlearn("init", "mnist_class")
    assert refused.code == 2
    assert "NAME = 'mnist_class': mnist_class.yaml exists and is not overwritten" in refused.err
    assert copy.read_text() == "name: mine\n"
    assert [path.name for path in empty.iterdir()] == ["mnist_class.yaml"]


def test_a_plan_of_nights_comes_with_its_experiments(mixunlearn: Command, empty: Path) -> None:
    done = mixunlearn("init", "nightly/digits", "--json")
    assert done.result == {"files": ["nightly/digits.yaml", "digits_class.yaml"]}
    assert read_nightly(empty / "nightly" / "digits.yaml")
    (empty / "nightly" / "digits.yaml").unlink()
    assert mixunlearn("init", "nightly/digits").out == "nightly/digits.yaml\n"


def test_a_folder_that_cannot_be_written(empty: Path) -> None:
    (empty / "small").write_text("a file")
    with pytest.raises(MixUnlearnError, match=r"small/digits.yaml: .*choose another folder"):
        copy_preset("small/digits", Path())


def test_all_presets_are_listed(mixunlearn: Command) -> None:
    listed = mixunlearn("init")
    assert "mnist_class\tThe quickstart: forget digit 0" in listed.out
    assert {"name": "nightly/mnist"}.items() <= mixunlearn("init", "--json").result["presets"][
        -1
    ].items()
