"""The verdict: its states on stated cases, and that doing nothing is always a contender."""

import re

import numpy as np
import pytest

from mixunlearn.errors import InputError
from mixunlearn.evidence.originals import improvements, kind_of
from mixunlearn.evidence.states import BETTER, EQUIVALENT, HARMFUL, NO_BETTER, STATES, UNDECIDED
from mixunlearn.evidence.verdict import Verdict, judge

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


def test_an_attack_that_is_a_little_worse_is_not_held_against_a_nearer_average() -> None:
    """The attack is farther by certain 4.5 pp of a margin of 5, and not equivalent."""
    untouched = {**models(3, 99, 97, 50), "mia/asr": list(np.add(RETRAINED["mia/asr"], 1))}
    found = verdict({**models(2, 20, 97, 50), "mia/asr": [55.4, 55.5, 55.6, 55.5, 55.4]}, untouched)
    attack = next(each for each in found.improvements if each.kind == "attack")
    assert attack.p_worse < 0.05 < attack.p_far
    assert found.state == BETTER
    assert "attack larger by 0.9" in found.reasons[1]


def test_an_attack_that_is_worse_by_more_than_a_margin_is_named() -> None:
    untouched = {**models(3, 99, 97, 50), "mia/asr": list(np.add(RETRAINED["mia/asr"], 1))}
    found = verdict({**models(2, 20, 97, 50), "mia/asr": [62.4, 62.5, 62.6, 62.5, 62.4]}, untouched)
    assert found.state == NO_BETTER
    assert found.reasons[1].endswith("because attack is farther by more than a margin")


@pytest.mark.parametrize(("originals", "references"), [(2, 5), (5, 2), (5, 1)])
def test_two_models_of_a_kind_decide_nothing(originals: int, references: int) -> None:
    few = {name: values[:originals] for name, values in models(2, 0, 97, 50).items()}
    nothing = {name: values[:originals] for name, values in UNTOUCHED.items()}
    retrained = {name: values[:references] for name, values in RETRAINED.items()}
    found = judge(few, nothing, retrained, MARGINS, cost=0.5)
    assert found.state == UNDECIDED
    assert found.reasons[0] == "the spread is unknown: 3 originals and 3 references are needed"
    assert found.reasons[1] == "whether it is better than doing nothing is unknown"
    assert not found.improvements
    assert not found.changes


# --- harm: measured against retraining and against the own originals -------------------------


def test_an_original_that_was_worse_already_is_not_held_against_the_unlearning() -> None:
    found = verdict(models(2, 0, 60, 50), untouched=models(3, 99, 60, 70))
    assert found.biases[1].high < -MARGINS["acc/test_retain"]
    assert found.state == BETTER
    # A loss of 1 pp more is certain, but too small to matter only if retraining is near.
    nearly = verdict(models(2, 0, 59, 50), untouched=models(3, 99, 60.5, 70))
    assert nearly.state == HARMFUL


def test_a_loss_within_the_margin_is_no_harm() -> None:
    """Clearly below the own original, but as good as retraining."""
    found = verdict(models(2, 0, 97, 50), untouched=models(3, 99, 99, 70))
    assert found.state == EQUIVALENT


def test_a_harmful_unlearning_says_what_was_lost() -> None:
    reason = verdict(models(2, 0, 60, 50)).reasons[0]
    said = "below retraining by more than the margin, and below its own originals: acc/test_retain"
    assert reason.endswith(said)


def test_harm_is_corrected_for_the_number_of_metrics_of_utility() -> None:
    """Originals and unlearned models alike, both far below retraining: 5 % are called harmful."""
    rng = np.random.default_rng(0)
    margins = {"acc/test": 1.0, "acc/test_retain": 1.0, "acc/train_retain": 1.0}
    wrong, draws = 0, 250
    for _ in range(draws):
        low, own, high = (
            {name: list(rng.normal(mean, 0.3, 5)) for name in margins} for mean in (60, 60, 97)
        )
        wrong += judge(low, own, high, margins, cost=1).state == HARMFUL
    assert wrong / draws < 0.05 + 2 * np.sqrt(0.05 * 0.95 / draws)


# --- what is shown, and what is not ----------------------------------------------------------


def with_attack(*values: float) -> dict[str, list[float]]:
    return {**models(2, 0, 97, 50), "mia/asr": list(values)}


def test_a_difference_is_not_said_to_be_outside_the_margin_unless_that_is_shown() -> None:
    """The attack: bias +4.8, interval from 4.1 to 5.5; the margin is 5."""
    found = verdict(with_attack(54.0, 54.5, 55.0, 55.3, 55.8))
    attack = found.biases[2]
    assert 0 < attack.low < MARGINS["mia/asr"] < attack.high
    assert (attack.state, attack.outside) == ("different", False)
    assert "a difference is shown, but not that it is outside the margin: mia/asr" in str(
        found.reasons[0]
    )
    assert found.reasons[0].endswith("originals and references would decide")
    clear = verdict(with_attack(59, 59.5, 60, 60.3, 60.8))
    assert clear.biases[2].outside
    assert clear.reasons[0].endswith("shown to be outside its margin: mia/asr")


def test_no_better_says_whether_it_is_shown_to_be_worse_the_same_or_neither() -> None:
    near = models(4, 0, 97, 51)
    same = {name: list(np.add(values, 0.01)) for name, values in near.items()}
    assert (
        verdict(near, same)
        .reasons[1]
        .startswith("shown to be the same as doing nothing, within the margins: ")
    )
    worse = verdict(models(2, 20, 97, 50), untouched=models(3, 0, 97, 50))
    assert worse.state == NO_BETTER
    assert worse.reasons[1].startswith(
        "against doing nothing, the distance to retraining is larger by "
    )
    noisy = verdict(models(2, 50, 97, 50, sd=9), untouched=models(3, 50, 97, 50, sd=9))
    assert noisy.state == NO_BETTER  # a difference from retraining is certain
    assert noisy.reasons[1].startswith(
        "not shown to be better than doing nothing, nor to be the same: "
    )


@pytest.mark.parametrize(
    ("attack", "sign"), [([61, 50, 49, 44, 52], -1), ([63, 42, 58, 43, 52], 1)]
)
def test_what_is_open_in_both_respects_is_undecided_whatever_the_sign_of_the_mean(
    attack: list[float], sign: int
) -> None:
    untouched = {**models(3, 0, 97, 50), "mia/asr": attack}
    found = verdict(with_attack(40.0, 46.0, 50.0, 55.0, 60.0), untouched)
    average = found.improvements[-1]
    assert average.mean * sign > 0
    assert min(average.p_better, average.p_worse) > 0.05
    assert found.biases[2].state == "undecided"
    assert found.state == UNDECIDED


def test_models_that_are_their_originals_are_no_better_though_equivalence_is_open() -> None:
    wide = models(2, 0, 97, 50, sd=4)
    found = verdict(wide, untouched={name: list(np.add(v, 0.2)) for name, v in wide.items()})
    assert any(bias.state == "undecided" for bias in found.biases)
    assert all(change.none for change in found.changes)
    assert found.state == NO_BETTER


def test_equal_gains_are_exact_in_spite_of_rounding() -> None:
    """0.1 + 0.2 is not 0.3 in floats, but gains that differ by so much do not vary."""
    rounded, written = [0.1 + 0.2, 0.3, 0.1 + 0.2], [0.3, 0.1 + 0.2, 0.3]
    unlearned, untouched, retrained, further = (
        dict.fromkeys(MARGINS, values) for values in (rounded, written, [0.0] * 3, [0.6] * 3)
    )
    assert unlearned != untouched
    for each in improvements(unlearned, untouched, retrained, MARGINS):
        assert (each.p_better, each.p_worse) == (1, 1)
    for each in improvements(unlearned, further, retrained, MARGINS):
        assert (each.p_better, each.p_worse) == (0, 1)


def test_the_uncertainty_of_retraining_counts_when_improvement_is_claimed() -> None:
    """Originals as far below retraining as unlearned models are above: no improvement.

    Only the references vary, so whether one side looks nearer depends on their mean alone. If
    that is taken as exact, an improvement is claimed in about half of all cases.
    """
    rng, claimed, draws = np.random.default_rng(0), 0, 400
    for _ in range(draws):
        above, below, retrained = (
            {
                name: list(rng.normal(mean * margin, sd * margin, COUNT))
                for name, margin in MARGINS.items()
            }
            for mean, sd in ((1, 0.1), (-1, 0.1), (0, 0.4))
        )
        claimed += improvements(above, below, retrained, MARGINS)[-1].p_better < 0.05
    assert claimed / draws < 0.05 + 2 * np.sqrt(0.05 * 0.95 / draws)


def test_a_certain_improvement_is_still_found() -> None:
    average = verdict(models(2, 0, 97, 50)).improvements[-1]
    assert average.p_better < 1e-3
    # By hand: (99 / 2 + 0.2 / 2 - 0 + 20 / 5) / 3 margins.
    assert average.mean == pytest.approx((99 / 2 + 20 / 5) / 3, abs=0.5)


# --- input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "values", "message"),
    [
        (
            "unlearned",
            [50.0, float("nan"), 50, 50, 50],
            "unlearned.mia/asr = nan: must be a finite",
        ),
        (
            "untouched",
            [50.0, 50, float("inf"), 50, 50],
            "untouched.mia/asr = inf: must be a finite",
        ),
        ("retrained", [float("-inf")] * 5, "retrained.mia/asr = -inf: must be a finite number"),
        ("unlearned", [50.0] * 4, "number of values of unlearned.mia/asr = 4: must be 5"),
        ("untouched", [50.0] * 6, "number of values of untouched.mia/asr = 6: must be 5"),
        ("retrained", [50.0] * 3, "number of values of retrained.mia/asr = 3: must be 5"),
        ("retrained", [], "retrained.mia/asr = None: needs a value for each model"),
    ],
)
def test_values_are_checked(role: str, values: list[float], message: str) -> None:
    given = {"unlearned": models(2, 0, 97, 50), "untouched": UNTOUCHED, "retrained": RETRAINED}
    given[role] = {**given[role], "mia/asr": values}
    with pytest.raises(InputError, match=re.escape(message)):
        judge(**given, margins=MARGINS, cost=1.0)


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_margins_are_checked(margin: float) -> None:
    with pytest.raises(InputError, match=rf"margins\.mia/asr = {margin}: must be finite and above"):
        judge(RETRAINED, RETRAINED, RETRAINED, {**MARGINS, "mia/asr": margin}, cost=1.0)
    with pytest.raises(InputError, match=r"margins = \{\}"):
        judge(RETRAINED, RETRAINED, RETRAINED, {}, cost=1.0)


# --- words and numbers -----------------------------------------------------------------------


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
    assert found["changes"] == found["improvements"] == {}
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
