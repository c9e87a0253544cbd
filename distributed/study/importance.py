"""How much of the objective each hyperparameter explains."""

import warnings
from collections.abc import Sequence

import optuna
from optuna.trial import create_trial

from distributed.study.attempt import Attempt, objective_value

# Minimal number of trials; number of draws; maximal number of trials a draw: see `Study.shares`.
ENOUGH, RESAMPLES, RESAMPLED = 8, 20, 300
FEWEST_BEST = 5  # minimal number of trials that count as the best


def explained_shares(attempts: Sequence[Attempt], objective: str) -> dict[str, float]:
    """Return PED-ANOVA's importances of the hyperparameters, normalised."""
    # Not above: it imports scikit-learn, which every start of a sweep would wait for.
    from optuna.importance import (  # noqa: PLC0415
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    study = optuna.create_study(direction="minimize")
    # As complete ones: Optuna's evaluators ignore pruned trials, which are most of a study.
    study.add_trials(
        create_trial(
            params=dict(attempt.hyperparameters),
            distributions=dict(attempt.distributions),
            value=objective_value(attempt, objective),
        )
        for attempt in attempts
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report has its own warning about few trials
        evaluator = PedAnovaImportanceEvaluator(
            # A tenth of few trials would be one point, which has no density.
            target_quantile=max(0.1, FEWEST_BEST / len(attempts))
        )
        return dict(get_param_importances(study, evaluator=evaluator))
