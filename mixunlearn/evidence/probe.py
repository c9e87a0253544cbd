"""A linear probe: whether a model's features still tell the forgotten images apart.

Shape suffixes: N samples, E features.
"""

import numpy as np

from mixunlearn.data.batches import Samples
from mixunlearn.evidence.features import features
from mixunlearn.evidence.images import labels_of
from mixunlearn.models import StagedModel

ITERATIONS = 1000  # far more than it needs


def probe_accuracy(model: StagedModel, fitted: Samples, scored: Samples) -> float:
    """Return the accuracy of a new classifier on the model's frozen features, in percent.

    Multinomial logistic regression with an L2 penalty (scikit-learn's defaults) on standardised
    features; see `features`. The model's own last layer plays no part, so a change that is confined
    to it cannot be seen here: then the probe still knows what the outputs deny.

    Args:
        model: not changed, not even its mode.
        fitted: images that the probe learns from, of at least two classes.
        scored: images whose accuracy is measured; none of `fitted`.

    Returns:
        Percent in [0, 100]. Features of a retrained model separate classes that it has never seen
        as well, to some degree: what counts is the difference to it.

    Raises:
        InputError: the model has no features; see `features`.
        DivergedError: a feature is not finite.
        ValueError: all images to learn from are of one class.

    Source: Alain & Bengio, 2016, arXiv 1610.01644.
    """
    # Imported here, because it takes a second and is only needed for the probe.
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
    probe.fit(features(model, fitted).cpu().numpy(), labels_of(fitted))
    found_N = probe.predict(features(model, scored).cpu().numpy())
    return 100 * float(np.mean(found_N == labels_of(scored)))
