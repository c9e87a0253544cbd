"""Evidence by example: can one tell from an image's margin whether a model was unlearned?

U-LiRA (Hayes et al. 2024, arXiv 2403.01218) fits, for each forgotten image, one distribution to the
margins of unlearned models and one to those of retrained models. A new model's margin is then
judged by the ratio of the two likelihoods. Hayes et al. train hundreds of models for this; here
there are few, which changes two things:

- **Both are left out.** To judge an unlearned model u and a retrained model r, the distributions
  are fitted without u *and* without r, and the same two distributions judge both. If unlearned
  models are like retrained ones, then u and r could change places without anybody noticing. So the
  expected AUC is 1/2 exactly, for any number of models and any distribution of margins. With only
  the judged model left out, unlearned and retrained models are judged by different distributions,
  and the AUC of perfect unlearning is not 1/2.
- **Variances are moderated.** The variance of three margins says little. So it is drawn towards
  the variances of the other examples, as strongly as these agree among each other: an inverse-gamma
  prior, whose two parameters are estimated from all examples (Smyth 2004, Stat. Appl. Genet.
  Mol. Biol. 3(1), section 6.2), and a flat prior for the mean. The predictive distribution of a
  margin is then Student's t. If all examples have the same variance, it becomes the normal
  distribution with the pooled variance; with many models it becomes that of the example alone.

With few models the distributions are estimated badly, and the attack finds less than it could. An
AUC of 1/2 means that *this* attack with *these* models cannot tell; it is a lower bound.

Shape suffixes: U unlearned models, R retrained models, N examples; M either kind of models.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from mixunlearn.evidence.logit_margins import LogitMargins, require_models

Array = npt.NDArray[np.float64]

FEWEST = 3  # models of each kind: one is left out, and a variance needs two
FALSE_POSITIVES = 0.01  # the rate at which `pe/tpr_1` is read
SMALLEST_VARIANCE = 1e-6  # (0.001)²: margins of 1 are stored in steps of this size
MOST_FREEDOM = 1e6  # of the prior: from here on, the variances are pooled
LEAST_FREEDOM = 1e-3
DRAWS = 500  # of the bootstrap
SURE = 0.05  # error of an interval, on each side


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 90 % interval over models and examples, in the value's unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Log-likelihood ratios, unlearned against retrained; each pair (u, r) judged without both.

    Args:
        unlearned_URN: of model u, for each example.
        retrained_URN: of model r, for each example, by the same distributions.
    """

    unlearned_URN: Array
    retrained_URN: Array


@dataclass(frozen=True, kw_only=True)
class Sample:
    """LogitMargins of the same examples under both kinds of models.

    Args:
        unlearned_UN: under unlearned models, each from an original of its own.
        retrained_RN: under models that were retrained without the forget set.
    """

    unlearned_UN: LogitMargins
    retrained_RN: LogitMargins


def likelihood_ratios(sample: Sample, *, pooled: bool = False) -> Scores:
    """Return the log-likelihood ratios of all pairs of an unlearned and a retrained model.

    Args:
        sample: margins of at least 3 models of each kind.
        pooled: use one variance for all examples instead of moderated variances.

    Raises:
        ValueError: fewer than 3 models of a kind, no example, or a margin that is not finite.
    """
    unlearned_UN, retrained_RN = sample.unlearned_UN, sample.retrained_RN
    require_models(sample.unlearned_UN, sample.retrained_RN, FEWEST)
    fit_U, fit_R = _left_out(unlearned_UN, pooled), _left_out(retrained_RN, pooled)
    by_U_of_r = fit_U.each_of(retrained_RN)  # (U, R, N)
    by_R_of_u = fit_R.each_of(unlearned_UN).swapaxes(0, 1)
    return Scores(
        unlearned_URN=fit_U.own(unlearned_UN)[:, None] - by_R_of_u,
        retrained_URN=by_U_of_r - fit_R.own(retrained_RN)[None, :],
    )


def auc(scores: Scores) -> float:
    """Return the area under the ROC curve, in [0, 1]; 0.5: cannot be told.

    It is the probability that of an unlearned and a retrained model the unlearned one has the
    larger ratio, averaged over examples. Perfect unlearning has 0.5, on average exactly. Known
    distributions N(d, 1) and N(0, 1) have Φ(d / √2).
    """
    return float(_wins(scores).mean())


def tpr(scores: Scores, false_positives: float = FALSE_POSITIVES) -> float:
    """Return the rate of true positives at a rate of false positives, in percent.

    One threshold for all examples and pairs. Chance is 100 × `false_positives`, and perfect
    unlearning has about that on average: 0.8 to 1.6 for 1 with a dozen examples, because a rate of
    1 % is then read from one or two models. Known distributions N(d, 1) and N(0, 1) have
    Φ(d − Φ⁻¹(1 − FPR)). With fewer than 1 / `false_positives` ratios it is lower than that.
    """
    return _Ranking(scores).tpr(false_positives)


def per_example(
    sample: Sample, control: Sample, seed: int, *, pooled: bool = False, draws: int = DRAWS
) -> dict[str, Estimate]:
    """Return `auc` and `tpr_1` (%), and both minus those of the control: `excess_…`.

    An unlearned model may differ from retrained ones on all images alike, for example because it
    is less sure of everything. That is no memory of the forget set; the excess does not count it.

    The intervals are bootstrapped in three ways at once: unlearned models, retrained models (the
    same draw for `sample` and `control`) and examples. Ratios are not fitted again.

    Args:
        sample: margins on the forget set; or on retained images, to see whether unlearning
            exposes others.
        control: margins on images never trained on, under the same models in the same order.
        seed: of the bootstrap.
        pooled: see `likelihood_ratios`.
        draws: of the bootstrap.

    Raises:
        ValueError: as `likelihood_ratios`, or sample and control are of different models.
    """
    sizes = [(len(each.unlearned_UN), len(each.retrained_RN)) for each in (sample, control)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"sample and control need the same models, not {sizes[0]} and {sizes[1]}")
    parts = [_Measured(likelihood_ratios(each, pooled=pooled)) for each in (sample, control)]
    rng = np.random.default_rng(seed)
    drawn_B4 = np.array([_four(parts, *_draw(rng, parts)) for _ in range(draws)])
    low_4, high_4 = np.quantile(drawn_B4, (SURE, 1 - SURE), axis=0)
    names = ("auc", "tpr_1", "excess_auc", "excess_tpr_1")
    return {
        name: Estimate(value=float(value), low=float(low), high=float(high))
        for name, value, low, high in zip(names, _four(parts), low_4, high_4, strict=True)
    }


@dataclass(frozen=True)
class _Fit:
    """Predictive distributions of a margin, each without one of M models: Student's t."""

    freedom_M: Array
    mean_MN: Array
    scale_MN: Array

    def own(self, margins_MN: LogitMargins) -> Array:
        """Return each model's log density under the distributions without it."""
        return np.asarray(
            stats.t.logpdf(margins_MN, self.freedom_M[:, None], self.mean_MN, self.scale_MN)
        )

    def each_of(self, others_LN: LogitMargins) -> Array:
        """Return the log densities of other models' margins, (M, L, N)."""
        return np.asarray(
            stats.t.logpdf(
                others_LN[None],
                self.freedom_M[:, None, None],
                self.mean_MN[:, None],
                self.scale_MN[:, None],
            )
        )


def _left_out(margins_MN: LogitMargins, pooled: bool) -> _Fit:
    """Return the predictive distributions without each of the models in turn."""
    left = len(margins_MN) - 1
    parts = [np.delete(margins_MN, m, axis=0) for m in range(left + 1)]
    variance_MN = np.array([part.var(axis=0, ddof=1) for part in parts])
    # The prior as well is estimated without the model: otherwise an unusual model would widen the
    # distributions of its own kind, and look like one of them.
    prior = [_prior(variance_N, left - 1, pooled) for variance_N in variance_MN]
    freedom_M, expected_M = np.array(prior).T
    moderated = (freedom_M * expected_M)[:, None] + (left - 1) * variance_MN
    total_M = freedom_M + left - 1
    return _Fit(
        freedom_M=total_M,
        mean_MN=np.array([part.mean(axis=0) for part in parts]),
        # 1 + 1 / n: the mean is estimated too.
        scale_MN=np.sqrt(moderated / total_M[:, None] * (1 + 1 / left)),
    )


def _prior(variance_N: Array, freedom: int, pooled: bool) -> tuple[float, float]:
    """Return degrees of freedom and mean of the prior of variances, from their own spread."""
    floored_N = np.maximum(variance_N, SMALLEST_VARIANCE)
    half = freedom / 2
    # Of the logarithm of a variance, sampling alone gives this spread; the rest is the prior's.
    rest = float(np.var(np.log(floored_N))) - float(special.polygamma(1, half))
    if pooled or rest <= special.polygamma(1, MOST_FREEDOM / 2):
        return MOST_FREEDOM, float(floored_N.mean())
    prior = float(
        optimize.brentq(
            lambda x: special.polygamma(1, np.exp(x) / 2) - rest,
            np.log(LEAST_FREEDOM),
            np.log(MOST_FREEDOM),
        )
    )
    freedom_0 = float(np.exp(prior))
    shift = special.digamma(freedom_0 / 2) - np.log(freedom_0 / 2)
    shift -= special.digamma(half) - np.log(half)
    return freedom_0, float(np.exp(np.log(floored_N).mean() + shift))


def _wins(scores: Scores) -> Array:
    """Return 1 where the unlearned model has the larger ratio, 0.5 where they are equal."""
    return (np.sign(scores.unlearned_URN - scores.retrained_URN) + 1) / 2


class _Ranking:
    """All ratios in descending order, to read a rate at any weights of models and examples."""

    def __init__(self, scores: Scores) -> None:
        unlearned, retrained = scores.unlearned_URN.ravel(), scores.retrained_URN.ravel()
        values = np.concatenate((unlearned, retrained))
        self.order = np.argsort(-values, kind="stable")
        # Equal ratios cannot be separated by a threshold: only the last of them is a place for it.
        self.ends = np.flatnonzero(np.diff(values[self.order], append=-np.inf))
        self.size = len(unlearned)

    def tpr(self, false_positives: float, weights: Array | None = None) -> float:
        """Return the rate of true positives in percent."""
        half = np.ones(self.size) if weights is None else weights.ravel()
        half, none = half / half.sum(), np.zeros(self.size)
        true = np.cumsum(np.concatenate((half, none))[self.order])[self.ends]
        false = np.cumsum(np.concatenate((none, half))[self.order])[self.ends]
        # What is above the k-th of n false positives, a share of k / (n + 1) by chance; linear
        # between them. What is above the next one would be (k + 1) / (n + 1), too much.
        at = np.diff(false, prepend=0.0) > 0
        return 100 * float(np.interp(false_positives, np.r_[0, false[at]], np.r_[0, true[at]]))


class _Measured:
    """Both values of one sample, at any weights."""

    def __init__(self, scores: Scores) -> None:
        self.wins, self.ranking = _wins(scores), _Ranking(scores)
        self.examples = scores.unlearned_URN.shape[2]

    def pair(self, weights: Array | None = None) -> tuple[float, float]:
        """Return AUC and the rate of true positives in percent."""
        return (
            float(np.average(self.wins, weights=weights)),
            self.ranking.tpr(FALSE_POSITIVES, weights),
        )


def _four(
    parts: list[_Measured], models_UR: Array | None = None, examples: list[Array] | None = None
) -> tuple[float, float, float, float]:
    """Return AUC and true positives, and both minus those of the control."""
    found = [
        part.pair(None if models_UR is None else models_UR[:, :, None] * each)
        for part, each in zip(parts, examples or [np.empty(0)] * 2, strict=True)
    ]
    (area, rate), (area_control, rate_control) = found
    return area, rate, area - area_control, rate - rate_control


def _draw(rng: np.random.Generator, parts: list[_Measured]) -> tuple[Array, list[Array]]:
    """Return how often each pair of models and each example is drawn."""

    def counts(size: int) -> Array:
        # One less than there are (Rao & Wu 1988, JASA 83, 231-241): with as many, the variance of
        # a mean of 5 would be a fifth too small.
        drawn = max(size - 1, 1)
        return rng.multinomial(drawn, np.full(size, 1 / size)).astype(np.float64)

    unlearned, retrained, _ = parts[0].wins.shape
    models_UR = np.outer(counts(unlearned), counts(retrained))
    return models_UR, [counts(part.examples) for part in parts]
