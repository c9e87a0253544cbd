"""The verdict: its states on stated cases, and that doing nothing is always a contender."""

import numpy as np
import pytest

from mixunlearn.evidence.verdict import (
    BETTER,
    EQUIVALENT,
    HARMFUL,
    NO_BETTER,
    STATES,
    UNDECIDED,
    Verdict,
    judge,
    kind_of,
)

MARGINS = {"acc/train_forget": 2.0, "acc/test_retain": 2.0, "mia/asr": 5.0}
COUNT = 5


def models(
    seed: int, forget: float, retain: float, attack: float, sd: float = 0.3
) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    means = dict(zip(MARGINS, (forget, retain, attack), strict=True))
    return {name: list(rng.normal(mean, sd, COUNT)) for name, mean in means.items()}


RETRAINED = models(0, 0, 97, 50)
UNTOUCHED = models(1, 99, 97.2, 70)


def verdict(
    unlearned: dict[str, list[float]],
    untouched: dict[str, list[float]] = UNTOUCHED,
    cost: float = 0.2,
) -> Verdict:
    return judge(unlearned, untouched, RETRAINED, MARGINS, cost=cost)


@pytest.mark.parametrize(
    ("unlearned", "state"),
    [
        (models(2, 0, 97, 50), EQUIVALENT),
        (models(2, 0.5, 96.5, 51), EQUIVALENT),
        (models(2, 20, 97, 52), BETTER),
        (models(2, 99, 97.2, 70), NO_BETTER),
        (models(2, 0, 60, 50), HARMFUL),
        (models(2, 0, 97, 50, sd=8), UNDECIDED),
    ],
)
def test_states(unlearned: dict[str, list[float]], state: str) -> None:
    found = verdict(unlearned)
    assert found.state == state
    assert found.state in STATES
    assert len(found.reasons) == 3


def test_models_like_retrained_ones_are_no_better_if_doing_nothing_is_as_good() -> None:
    """A request of few images: the untouched original is like a retrained model already."""
    found = verdict(models(2, 0, 97, 50), untouched=models(3, 0, 97, 50))
    assert all(bias.state == "equivalent" for bias in found.biases)
    assert found.state == NO_BETTER


def test_a_nearer_average_does_not_excuse_a_worse_attack() -> None:
    untouched = models(3, 99, 97, 50)
    found = verdict(models(2, 0, 97, 75), untouched=untouched)
    by_kind = {each.kind: each for each in found.improvements}
    assert by_kind["average"].mean > 0 > by_kind["attack"].mean
    assert found.state == NO_BETTER


def test_two_originals_decide_nothing() -> None:
    few = {name: values[:2] for name, values in models(2, 0, 97, 50).items()}
    nothing = {name: values[:2] for name, values in UNTOUCHED.items()}
    found = judge(few, nothing, RETRAINED, MARGINS, cost=0.5)
    assert found.state == UNDECIDED
    assert found.reasons[0] == "the spread is unknown: 3 originals and 3 references are needed"
    assert found.improvements == []


def test_reasons_name_the_farthest_metric_doing_nothing_and_the_cost() -> None:
    metrics, nothing, cost = verdict(models(2, 20, 97, 52), cost=1.5).reasons
    assert metrics.startswith("2 of 3 metrics within the margins; farthest is acc/train_forget: +")
    assert "margin ±2" in metrics
    assert nothing.startswith("against doing nothing, the distance to retraining is smaller by ")
    assert cost == "it took 1.50 times as long as retraining: slower than retraining"
    assert verdict(RETRAINED, cost=0.25).reasons[2] == "it took 0.25 of the time of retraining"


def test_what_is_undecided_says_how_many_models_would_decide() -> None:
    reason = verdict(models(2, 0, 97, 50, sd=4)).reasons[0]
    assert reason.endswith(" originals and references would decide")


def test_it_is_plain_data_without_numbers_that_json_lacks() -> None:
    few = {name: values[:1] for name, values in RETRAINED.items()}
    found = judge(few, few, few, MARGINS, cost=float("nan")).as_plain()
    assert found["state"] == UNDECIDED
    assert found["metrics"]["mia/asr"]["low"] is None
    assert found["reasons"][2] == "the cost is unknown"


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("acc/train_forget", "forgetting"),
        ("acc/test_forget", "forgetting"),
        ("acc/test", "utility"),
        ("acc/train_retain", "utility"),
        ("mia/asr", "attack"),
        ("acc/train_forget_clean", "forgetting"),
        ("backdoor/success", "forgetting"),
    ],
)
def test_kinds_of_metrics(metric: str, kind: str) -> None:
    assert kind_of(metric) == kind
