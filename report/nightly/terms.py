"""What the words on the page of a night mean, for readers who see one for the first time."""

TERMS = {
    "unchanged": "the champion's gap is shown to be within the margin of its earlier nights.",
    "improved": "a candidate has won its duel.",
    "regressed": "the champion's gap has drifted above its earlier nights: CUSUM gives an alarm.",
    "inconclusive": "nothing of this is shown: there are too few nights or seeds, or no champion.",
    "failed": "the night, or the part about an experiment, ended with an error.",
    "champion": "the configuration in use. Each night measures it again, under fresh seeds.",
    "candidate": "the best other trial that has not lost a duel against this champion.",
    "duel": "champion and candidate unlearn under the same seeds, night after night, until it is "
    "shown which is better. Difference: champion − candidate; positive means that the candidate "
    "is better. A night counts as one observation, because its seeds may be alike.",
    "promotion": "the winner of a duel takes the champion's place, if the plan allows it.",
    "forget set": "the images that are forgotten, and those that the model is tested on. Several "
    "rotate, so that no configuration fits one of them by chance.",
    "references": "models retrained without the forgotten images: what unlearning should reach.",
    "gap/avg": "distance to the references on test, averaged over the metrics, in percentage "
    "points (pp); smaller is better. Mean ± sd (n): over n fresh seeds.",
    "margin": "the change of gap/avg that matters; the plan declares it.",
    "shift": "change of gap/avg against earlier nights with the same champion, data and recipe; "
    "positive is worse.",
    "CUSUM": "level / limit of a sum that grows with each night above the expected gap: so it "
    "also finds a slow decline that no single night shows. Above the limit it gives an alarm.",
}
# Headings and labels of rows that are about a term of another name.
ABOUT = {"references' own": "references", "against earlier nights": "shift", "each seed": "gap/avg"}


def anchors() -> dict[str, str]:
    """Return where the page explains a heading or a label, by its text in lower case."""
    found = {name.lower(): f"term-{number}" for number, name in enumerate(TERMS, start=1)}
    return found | {text: found[name] for text, name in ABOUT.items()}
