"""Numbers and names in sentences: 1 epoch, 2 epochs, 3 classes; a class, an ids task."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which is in the singular for 1 only.

    Args:
        number: how many there are.
        noun: one or more words in the singular; the last one gets the plural.
    """
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def with_article(words: str) -> str:
    """Return words with "a" or "an" before them, by their first letter."""
    return f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words}"
