"""Data sets as an error or an attacker left them, for the kinds of tasks that have such.

Shape suffixes: N images, C channels, H W pixels.
"""

from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.data.labelled import Images, Rows


def replaced(
    dataset: Dataset, rows_N: Rows, labels_N: Rows | int, images_NCHW: Images | None = None
) -> Dataset:
    """Return a data set with other labels in some rows; all else stays as it is.

    Args:
        dataset: the images as the source has them; it is not changed.
        rows_N: which rows.
        labels_N: their labels.
        images_NCHW: their images, uint8; `None` leaves them as they are.
    """
    all_images_NCHW, all_labels_N = dataset.images_NCHW, dataset.labels_N.copy()
    all_labels_N[rows_N] = labels_N
    if images_NCHW is not None:
        all_images_NCHW = all_images_NCHW.copy()
        all_images_NCHW[rows_N] = images_NCHW
    return make_dataset(
        all_images_NCHW,
        all_labels_N,
        classes=dataset.classes,
        n_train=dataset.n_train,
        source=dataset.source,
    )


def without_wrong_labels(dataset: Dataset) -> str | None:
    """Return why no label of a data set can be wrong, `None` if one can."""
    return "there is only one class: no label can be wrong" if len(dataset.classes) == 1 else None
