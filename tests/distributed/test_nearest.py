"""Which study `--config auto` chooses for a request, and when it refuses."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from distributed.config.read import make_experiment
from distributed.nightly.nights import Nights
from distributed.nightly.records import Configuration, NightRecord, PartRecord
from distributed.plan.plan import resolved
from distributed.requests.nearest import Candidate, Described, candidates, choose, nearest
from mixunlearn.data.sources import SOURCES
from mixunlearn.errors import InputError
from mixunlearn.evidence.states import BETTER, EQUIVALENT, HARMFUL, NO_BETTER, UNDECIDED

REQUEST = Described(
    level="ids",
    forget=37,
    train=1000,
    model="cnn",
    width=None,
    digest="a",
    image_shape=(1, 28, 28),
    classes=10,
    labels="aware",
)
SAME = Candidate(study="same", about=REQUEST, method="finetune", verdict=EQUIVALENT)


def like(
    study: str, verdict: str = EQUIVALENT, method: str = "finetune", **about: Any
) -> Candidate:
    return Candidate(study=study, about=replace(REQUEST, **about), method=method, verdict=verdict)


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (like("x", level="class"), "forgets whole classes, not single images"),
        (like("x", model="resnet18"), "its model is resnet18, not cnn"),
        (like("x", image_shape=(3, 32, 32)), "its images are 3×32×32, not 1×28×28"),
        (like("x", classes=100), "it has 100 classes, not 10"),
        (like("x", forget=149), "forgets 14.90% of the images, not 3.70%"),
        (like("x", forget=9), "forgets 0.90% of the images, not 3.70%"),
        (like("x", HARMFUL), f"its verdict is: {HARMFUL}"),
        (like("x", NO_BETTER), f"its verdict is: {NO_BETTER}"),
        (like("x", method="original"), "its method, original, changes nothing"),
        (like("x", method="sisa"), "its method, sisa, gives several models"),
    ],
)
def test_what_is_far_is_refused_with_the_reason(candidate: Candidate, said: str) -> None:
    with pytest.raises(InputError) as error:
        nearest(REQUEST, [candidate])
    assert str(error.value).startswith("--config = 'auto': no study is near; x: ")
    assert said in str(error.value)
    assert nearest(REQUEST, [candidate, SAME]).target == "same"


def test_the_refusal_names_the_one_with_the_fewest_faults() -> None:
    with pytest.raises(InputError, match=r"no study is near; near: it has 9 classes, not 10; name"):
        nearest(REQUEST, [like("far", model="vit", classes=9), like("near", classes=9)])


def test_a_method_that_needs_labels_is_no_choice_without_labels() -> None:
    blind = replace(REQUEST, labels="agnostic")
    with pytest.raises(InputError, match="its method, finetune, needs labels"):
        nearest(blind, [SAME])
    chosen = nearest(blind, [like("mixed", method="mixunlearn")])
    assert chosen.differences == ["label-aware, not label-agnostic"]


def test_the_nearest_wins_and_says_what_differs() -> None:
    found = [
        like("a-data", digest="b"),
        like("b-width", width=64),
        like("c-fraction", forget=74),
        like("d-state", UNDECIDED),
        SAME,
    ]
    order = []
    while found:
        chosen = nearest(REQUEST, found)
        order.append((chosen.target, list(chosen.differences)))
        found = [each for each in found if each.study != chosen.target]
    assert order == [
        ("same", []),
        ("d-state", []),
        ("b-width", ["width 64, not default"]),
        ("c-fraction", ["74 of 1000 images forgotten, not 37 of 1000"]),
        ("a-data", ["other images"]),
    ]


def test_the_reason_is_one_line() -> None:
    chosen = nearest(REQUEST, [like("x", BETTER, digest="b", forget=74), like("y", HARMFUL)])
    assert chosen.reason == (
        "x: the nearest of 2; differs in other images, 74 of 1000 images forgotten, not 37 of "
        f"1000; its verdict: {BETTER}"
    )
    assert nearest(REQUEST, [SAME]).reason == (
        f"same: the only finished study; the same problem; its verdict: {EQUIVALENT}"
    )


def write(home: Path, name: str, summary: object, **keys: Any) -> None:
    content = {
        "name": name,
        "data": {"source": "digits", "limit": {"train": 300}},
        "model": {"name": "cnn", "width": 4},
        "task": {"kind": "class"},
        **keys,
    }
    folder = home / "studies" / name
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(resolved(make_experiment(content)))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))


def test_only_finished_studies_that_can_be_read_are_candidates(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--config = 'auto': no finished study in "):
        choose(REQUEST, tmp_path)
    done = {"best": [{"trial": 1}], "verdict": {"state": UNDECIDED}}
    write(tmp_path, "done", done)
    write(tmp_path, "ids", done, task={"kind": "ids", "ids": [1, 2, 3]})
    write(tmp_path, "begun", None)
    write(tmp_path, "failed", {"best": [], "verdict": []})
    write(tmp_path, "damaged", [1])
    write(tmp_path, "other", done)
    broken = tmp_path / "studies" / "other" / "experiment.yaml"
    broken.write_text(yaml.safe_dump({"name": "other"}))
    found = {each.study: each for each in candidates(tmp_path)}
    assert found.keys() == {"done", "ids"}
    dataset = SOURCES["digits"]()
    about = found["done"].about
    assert (about.level, about.model, about.width) == ("class", "cnn", 4)
    assert (about.digest, about.image_shape, about.classes) == (dataset.digest, (1, 8, 8), 10)
    assert (about.labels, about.changed, found["done"].verdict) == ("aware", False, UNDECIDED)
    assert 0 < about.forget < about.train <= 300
    assert found["ids"].about.forget == 3
    assert choose(about, tmp_path).target == "done"
    assert choose(found["ids"].about, tmp_path).target == "ids"


def reign(home: Path, trial: str, judged: str | None = None) -> None:
    found = Configuration(method="finetune", parameters={}, epochs=2, trial=trial, judged=judged)
    part = PartRecord(name="digits", champion=found)
    night = NightRecord(plan="digits", date=date(2026, 11, 27), experiments=[part])
    Nights(home, "digits").write(night)


def test_a_champion_goes_before_winners_that_are_as_near(tmp_path: Path) -> None:
    write(tmp_path, "done", {"best": [{"trial": 1}], "verdict": {"state": EQUIVALENT}})
    about = next(candidates(tmp_path)).about
    reign(tmp_path, "done/7")
    assert choose(about, tmp_path).target == "done"  # it is shown to be equivalent, the other not
    reign(tmp_path, "done/7", EQUIVALENT)
    chosen = choose(about, tmp_path)
    assert chosen.target == "done/7"
    assert chosen.reason.startswith("done/7, the champion: the nearest of 2; the same problem; ")
    reign(tmp_path, "done/7", HARMFUL)
    assert choose(about, tmp_path).target == "done"
    reign(tmp_path, "gone/7", EQUIVALENT)  # of a study that is not in this home
    assert choose(about, tmp_path).target == "done"
    next((tmp_path / "nightly").glob("*/*/night.json")).write_text("[")
    assert choose(about, tmp_path).target == "done"
