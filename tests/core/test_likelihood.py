"""Evidence by example, on margins of stated distributions, whose AUC is known."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from mixunlearn.evidence.likelihood import (
    Sample,
    Scores,
    auc,
    likelihood_ratios,
    per_example,
    tpr,
)


def normal(
    rng: np.random.Generator, models: tuple[int, int], examples: int, shift: float = 0.0
) -> Sample:
    """Margins of unlearned models ~ N(shift, 1) and retrained models ~ N(0, 1), plus a level."""
    level = rng.normal(3, 4, size=examples)
    unlearned = level + rng.normal(shift, 1, size=(models[0], examples))
    return Sample(
        unlearned_UN=unlearned, retrained_RN=level + rng.normal(size=(models[1], examples))
    )


@pytest.mark.parametrize("shift", [1.0, 2.0, -2.0])
def test_known_normal_distributions_have_their_auc(shift: float) -> None:
    rng = np.random.default_rng(0)
    scores = likelihood_ratios(normal(rng, (24, 24), 200, shift))
    assert auc(scores) == pytest.approx(stats.norm.cdf(abs(shift) / np.sqrt(2)), abs=0.012)


def test_known_normal_distributions_have_their_rate_of_true_positives() -> None:
    rng = np.random.default_rng(1)
    scores = likelihood_ratios(normal(rng, (24, 24), 200, 2.0))
    known = 100 * stats.norm.cdf(2.0 - stats.norm.isf(0.01))  # 37 %
    assert tpr(scores) == pytest.approx(known, abs=3)


@pytest.mark.parametrize("models", [(3, 3), (5, 5), (4, 9)])
@pytest.mark.parametrize("pooled", [False, True])
def test_retrained_models_in_the_role_of_unlearned_ones_cannot_be_told(
    models: tuple[int, int], pooled: bool
) -> None:
    """Also with heavy tails, with what a model's examples share, and with unequal numbers."""
    rng, found = np.random.default_rng(2), []
    for _ in range(80):
        level, spread = rng.normal(3, 4, size=12), rng.lognormal(size=12)
        both = rng.standard_t(3, size=(sum(models), 12)) + rng.normal(size=(sum(models), 1))
        both = level + spread * both
        sample = Sample(unlearned_UN=both[: models[0]], retrained_RN=both[models[0] :])
        scores = likelihood_ratios(sample, pooled=pooled)
        found.append((auc(scores), tpr(scores)))
    areas, rates = np.array(found).T
    assert stats.sem(areas) < 0.015
    assert abs(areas.mean() - 0.5) < 3.5 * stats.sem(areas)
    # Read from a hundred ratios that are not independent: about 1 %.
    assert 0.4 < rates.mean() < 2.2


def test_a_difference_of_variances_alone_is_found() -> None:
    rng = np.random.default_rng(3)
    unlearned, retrained = rng.normal(0, 0.1, size=(16, 60)), rng.normal(0, 1, size=(16, 60))
    scores = likelihood_ratios(Sample(unlearned_UN=unlearned, retrained_RN=retrained))
    # Of |N(0, 1)| and |N(0, 0.1)| the second is smaller with probability 1 − 2 atan(0.1) / π.
    assert auc(scores) == pytest.approx(1 - 2 * np.arctan(0.1) / np.pi, abs=0.01)


def test_moderated_variances_lie_between_each_example_s_own_and_the_pooled_one() -> None:
    """Equal variances: as good as pooled. Very different ones: much better than pooled."""
    rng = np.random.default_rng(4)
    equal = normal(rng, (4, 4), 300, 2.0)
    found = [auc(likelihood_ratios(equal, pooled=pooled)) for pooled in (False, True)]
    assert found[0] == pytest.approx(found[1], abs=0.005)
    spread = np.exp(rng.normal(0, 2, size=300))
    unequal = Sample(
        unlearned_UN=spread * rng.normal(3, 1, size=(8, 300)),
        retrained_RN=spread * rng.normal(0, 1, size=(8, 300)),
    )
    # Along one example, any variance gives the same order; among examples it does not.
    found = [tpr(likelihood_ratios(unequal, pooled=pooled)) for pooled in (False, True)]
    assert found[0] > found[1] + 20


def test_areas_and_rates_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    ratios = rng.normal(size=(2, 4, 4, 50))
    scores = Scores(unlearned_URN=ratios[0] + 0.5, retrained_URN=ratios[1])
    answers = np.repeat((1, 0), ratios[0].size)
    values = np.r_[scores.unlearned_URN.ravel(), scores.retrained_URN.ravel()]
    false, true, _ = roc_curve(answers, values, drop_intermediate=False)
    for rate in (0.01, 0.1, 0.5):  # 8, 80 and 400 of 800
        known = true[np.flatnonzero(false >= rate)[0]]
        assert tpr(scores, rate) == pytest.approx(100 * known)
    tied = Scores(unlearned_URN=np.ones((3, 3, 5)), retrained_URN=np.ones((3, 3, 5)))
    assert tpr(tied, 0.2) == pytest.approx(20)
    one = Scores(unlearned_URN=np.array([[[2.0]]]), retrained_URN=np.array([[[1.0]]]))
    assert auc(one) == roc_auc_score([1, 0], [2.0, 1.0]) == 1
    assert auc(dataclasses.replace(one, retrained_URN=one.unlearned_URN)) == 0.5


def test_a_shift_of_all_images_is_no_memory() -> None:
    """Less sure of everything, by as much as of the forget set: nothing is left of the excess."""
    rng = np.random.default_rng(6)
    found = per_example(normal(rng, (6, 6), 80, -2.0), normal(rng, (6, 6), 80, -2.0), 0, draws=50)
    assert found["auc"].value > 0.85
    assert found["excess_auc"].low < 0 < found["excess_auc"].high
    assert abs(found["excess_auc"].value) < 0.05
    own = per_example(normal(rng, (6, 6), 80, -2.0), normal(rng, (6, 6), 80), 0, draws=50)
    assert own["excess_auc"].low > 0.2
    assert own["excess_tpr_1"].low > 0


def test_what_cannot_be_judged_is_refused() -> None:
    rng = np.random.default_rng(7)
    with pytest.raises(ValueError, match="2 retrained models; 3 or more are needed"):
        likelihood_ratios(normal(rng, (3, 2), 4))
    bad = normal(rng, (3, 3), 4)
    bad.unlearned_UN[0, 0] = np.nan
    with pytest.raises(ValueError, match="margins of unlearned models must be finite"):
        likelihood_ratios(bad)
    with pytest.raises(ValueError, match="the same models"):
        per_example(normal(rng, (3, 3), 4), normal(rng, (4, 3), 4), 0)


def test_models_that_do_not_differ_have_a_ratio() -> None:
    same = np.full((4, 5), 100.0)
    assert auc(likelihood_ratios(Sample(unlearned_UN=same, retrained_RN=same))) == 0.5
    scores = likelihood_ratios(Sample(unlearned_UN=same - 1, retrained_RN=same))
    assert auc(scores) == 1
