"""Data sets that an error or an attacker has changed, for the kinds of tasks that need them.

Shape suffixes: N images, C channels, H W pixels.
"""

from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.data.labelled import Images, Rows


def replaced(
    dataset: Dataset, rows_N: Rows, labels_N: Rows | int, images_NCHW: Images | None = None
) -> Dataset:
    """Return a data set with new labels in some rows; nothing else changes.

    Args:
        dataset: the unchanged images of the source; it stays unchanged.
        rows_N: the rows to change.
        labels_N: their new labels.
        images_NCHW: their new images, uint8; `None` keeps the images.
    """
    all_images_NCHW, all_labels_N = dataset.images_NCHW, dataset.labels_N.copy()
    all_labels_N[rows_N] = labels_N
    # Copied only then; otherwise the pixels stay mapped from the source's file.
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
