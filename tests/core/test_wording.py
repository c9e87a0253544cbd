"""Numbers and names in sentences."""

import pytest

from mixunlearn.wording import counted, with_article


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "epoch", "0 epochs"),
        (1, "epoch", "1 epoch"),
        (2, "training image", "2 training images"),
        (1, "class", "1 class"),
        (3, "class", "3 classes"),
        (2, "study", "2 studies"),
    ],
)
def test_one_is_no_plural(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words


@pytest.mark.parametrize(
    ("words", "whole"), [("ids task", "an ids task"), ("class task", "a class task")]
)
def test_articles(words: str, whole: str) -> None:
    assert with_article(words) == whole
