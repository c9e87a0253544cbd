"""The outcome of a night in one sentence, and in one word."""

from report.nightly.record import UNDECIDED, Record, parts_of, text_of, verdict_of

WORST_FIRST = ("failed", "regressed", "inconclusive", "improved", "unchanged")


def headline(night: Record) -> str:
    """Return the night's outcome in one sentence; it names experiments that are not unchanged."""
    return f"{text_of(night.get('plan'))}, {text_of(night.get('date'))}: {_outcome(night)}"


def _outcome(night: Record) -> str:
    found = _verdicts(night)
    if night.get("state") == "failed":
        error = text_of(night.get("error"), "no reason was recorded")
        return f"failed: {error}" + (f" (before that: {found})" if found else "")
    if night.get("state") == "running":
        return "still running" + (f" (so far: {found})" if found else "")
    return found or UNDECIDED


def _verdicts(night: Record) -> str:
    """Return the night's verdict, then the others, each with the names of its experiments."""
    names: dict[str, list[str]] = {}
    for experiment in parts_of(night):
        word = verdict_of(night, experiment)
        # In a night that is not done, no verdict yet means nothing.
        if word == experiment.get("verdict") or night.get("state") == "done":
            names.setdefault(word, []).append(text_of(experiment.get("name")))
    own = text_of(night.get("verdict"), "")
    notable = sorted(set(names) - {"unchanged"}, key=lambda word: (word != own, _severity(word)))
    return ", ".join(f"{word} ({', '.join(names[word])})" for word in notable) or own


def _severity(word: str) -> int:
    return WORST_FIRST.index(word) if word in WORST_FIRST else len(WORST_FIRST)


def night_word(night: Record) -> str:
    """Return the verdict on a night; without one, its state."""
    state = text_of(night.get("state"), "done")
    return text_of(night.get("verdict"), UNDECIDED) if state == "done" else state
