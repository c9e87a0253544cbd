"""Images with the same pixels in several parts are found by digests."""

import numpy as np

from mixunlearn.data.arrow import make_dataset
from mixunlearn.data.duplicates import fingerprints, shared


def test_the_same_pixels_are_counted_by_parts() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 5, 5), np.uint8)
    images[8] = images[0]
    images[9] = images[10] = images[1]
    dataset = make_dataset(images, np.arange(12) % 2, classes="ab", n_train=12, source="test")
    parts = {"forget": [0, 1, 2], "val": [3, 8, 9], "test": [4, 10, 11]}
    rows = {name: np.array(places) for name, places in parts.items()}
    found = shared(dataset, rows)
    assert found == {("forget", "val"): 2, ("forget", "test"): 1, ("val", "test"): 1}
    assert shared(dataset, {name: rows[name][:1] for name in rows}) == {}


def test_images_that_differ_in_a_bit_or_in_order_differ() -> None:
    one = np.zeros((1, 1, 4, 6), np.uint8)
    changed = np.repeat(one, 8 * one.size, axis=0).reshape(-1, one.size)
    places = np.arange(len(changed))
    changed[places, places // 8] = 1 << (places % 8)
    images = np.concatenate([one, changed.reshape(-1, *one.shape[1:])])
    digests = fingerprints(images, np.arange(len(images)))
    assert len(np.unique(digests)) == len(images)
    duplicates_of = fingerprints(images[::-1], np.arange(len(images)))
    np.testing.assert_array_equal(duplicates_of[::-1], digests)
