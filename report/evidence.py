"""The page of `mixunlearn evidence`: the verdict, a table, figures, all measures, what it is not.

It needs no script and no network: its content security policy forbids both. The template escapes
all text.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mixunlearn.atomic import replacing
from mixunlearn.evidence.states import BETTER, EQUIVALENT, HARMFUL, NO_BETTER, UNDECIDED
from mixunlearn.plain import finite
from mixunlearn.wording import counted
from report.evidence_figures import biases_figure, by_example_figure
from report.evidence_table import (
    HEADINGS,
    Plain,
    interval,
    methods,
    rows,
    sets_of,
    signed_area,
    state_on,
)
from report.notation import ABSENT, hundredths, probability, signed, three_digits, unit
from report.places import documentation
from report.plots.drawing import drawing
from report.runs import NOTHING, mapping
from report.template import render
from report.verdict import capitalised, style

# The best first. Undecided comes before what is known to be no better than doing nothing.
BEST_FIRST = (EQUIVALENT, BETTER, UNDECIDED, NO_BETTER, HARMFUL)
WORDS = {
    EQUIVALENT: "equivalent to retraining",
    BETTER: "better than doing nothing, not equivalent to retraining",
    NO_BETTER: "no better than doing nothing",
    HARMFUL: "harmful: utility is lost",
    UNDECIDED: "undecided",
}
BIASES = "bias of each metric, one row per method"
BY_EXAMPLE = "Excess area under the curve of the attack by example, one row per method"
LEGEND = (
    "Each cell shows the forget set that speaks most against the method. Group: methods that share "
    "a letter are not told apart. Distance: mean size of the biases against retrained models. "
    "Farthest bias: in units of its margin; between −1 and +1 the bias itself is within, its "
    "interval may not be. Attack by example: how much more often than by chance one image tells "
    "an unlearned from a retrained model (excess area under the curve; 0 is best). Contest score: "
    "that of the 2023 contest, beside the score that perfect unlearning would have. Relearning and "
    "probe: difference to retrained models in what comes back of the forgotten images. Below a "
    "number: its 90 % interval (distance: 95 %), and its metric or forget set."
)
SALUN = "share of forgotten images that SalUn's attack takes for unseen ones"
# What a measure is, for readers who do not know its name; docs/metrics.md has the formulas.
MEANINGS = {
    "acc/train_forget": "accuracy on the images to be forgotten",
    "acc/train_retain": "accuracy on the training images that are kept",
    "acc/test": "accuracy on unseen images",
    "acc/test_forget": "accuracy on unseen images of the forgotten classes",
    "acc/test_retain": "accuracy on unseen images of the other classes",
    "mia/asr": "success of a membership attack; 50 is chance",
    "mia/asr_laf": "the same attack as LAF's code scores it",
    "relearn/retain": "accuracy on forgotten images that 20 steps on kept images bring back",
    "relearn/forget": "the same, if the steps also see some of the forgotten images",
    "probe/forget": "accuracy on forgotten images of a new linear classifier on the features",
    "near/acc": "accuracy on the unseen images nearest to the forgotten ones",
    "near/class": "accuracy on unseen images of the class that is confused most with them",
}


def write_evidence(evidence: Plain, path: Path) -> None:
    """Write the page; a reader sees the old page or the new one.

    Args:
        evidence: the content of leaderboard.json.
        path: the file; its folder is created if missing.

    Raises:
        OSError: the file cannot be written.
    """
    content = page(evidence, path.parent).encode()
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def page(evidence: Plain, folder: Path) -> str:
    """Return the page as HTML.

    Args:
        evidence: the content of leaderboard.json.
        folder: where the page will be; links to files are relative to it.
    """
    state = best_state(evidence) or ""
    return render(
        "evidence.html.j2",
        evidence=evidence,
        headline=headline(evidence),
        state=capitalised(WORDS.get(state, "")),
        look=style(state),
        warnings=warnings(evidence),
        costs=_costs(evidence),
        headings=HEADINGS,
        rows=rows(evidence),
        legend=LEGEND,
        pictures=list(_pictures(evidence)),
        by_example=_picture(by_example_figure(evidence), BY_EXAMPLE),
        details=[each for method in methods(evidence) for each in _details(evidence, method)],
        forget_sets=_forget_sets(evidence),
        limits=limits(evidence),
        places=[("What the verdicts mean", documentation("evidence", folder), "docs/evidence.md")],
    )


# --- the first line --------------------------------------------------------------------------


def headline(evidence: Plain) -> str:
    """Return the verdict in words: of a single method, or of the best of several."""
    contenders = [each for each in methods(evidence) if each.get("method") != NOTHING]
    if len(contenders) == 1 and not contenders[0].get("state"):
        reason = contenders[0].get("absent") or "it was not measured"
        return f"There is no verdict on {contenders[0].get('method')}: {reason}."
    state = best_state(evidence)
    if state is None:
        return "There is no verdict on any method."
    best = [str(each["method"]) for each in contenders if each.get("state") == state]
    if len(contenders) == 1 or state == EQUIVALENT:
        return f"{_said(best, state, the='The')}{_scope(evidence)}."
    none = f"No method is shown to be equivalent to retraining{_scope(evidence)}"
    return f"{none}; {_said(best, state)}."


def best_state(evidence: Plain) -> str | None:
    """Return the best state that a method has, as in the first line; `None` if none has one."""
    states = {each.get("state") for each in methods(evidence) if each.get("method") != NOTHING}
    return next((state for state in BEST_FIRST if state in states), None)


def _costs(evidence: Plain) -> list[tuple[str, str]]:
    """Return what the best methods cost, as a reason; empty if it is unknown."""
    state = best_state(evidence)
    known = {
        str(each.get("method")): each.get("cost")
        for each in methods(evidence)
        if state and each.get("state") == state and finite(each.get("cost")) is not None
    }
    said = ", ".join(f"{name} {three_digits(cost)}" for name, cost in known.items())
    return [("Cost", f"Time of unlearning, in times of retraining: {said}.")] if known else []


def _said(names: Sequence[str], state: str, the: str = "the") -> str:
    are = "is" if len(names) == 1 else "are"
    if state == UNDECIDED:
        return f"{the} verdict on {', '.join(names)} is {WORDS[state]}"
    return f"{', '.join(names)} {are} {WORDS[state]}"


def _scope(evidence: Plain) -> str:
    """Return on which forget sets, and with how many models, the verdict was reached."""
    sets = evidence.get("forget_sets") or ()
    on = f", on {counted(len(sets), 'forget set')} that no search has seen" if sets else ""
    kinds = {"original": evidence.get("originals"), "reference": evidence.get("references")}
    numbers = [counted(number, noun) for noun, number in kinds.items() if number is not None]
    return f"{on} ({', '.join(numbers)})" if numbers else on


def warnings(evidence: Plain) -> list[str]:
    """Return what a reader must know first: looks at `test`, and what has no result."""
    looks = finite(evidence.get("looks")) or 0
    looked = f"This protocol has looked at test {looks:.0f} times, with other models or "
    looked += "configurations: each look is another chance of a good result by luck."
    return [
        *(str(caution) for caution in evidence.get("cautions") or ()),
        *([looked] if looks > 1 else []),
        *(f"Left out: {reason}." for reason in evidence.get("left_out") or ()),
        *(
            f"No result of {each.get('method')}: {each['absent']}."
            for each in methods(evidence)
            if each.get("absent")
        ),
    ]


# --- figures ---------------------------------------------------------------------------------


def _pictures(evidence: Plain) -> Iterator[dict[str, str]]:
    """Yield the figure of the biases on each forget set."""
    for each in evidence.get("forget_sets") or ():
        title = f"Forget set {each['name']}: {each.get('words') or ABSENT}"
        figure = biases_figure(evidence, str(each["name"]))
        yield {"title": title, "picture": _picture(figure, f"{title}: {BIASES}")}


def _picture(figure: Figure | None, words: str) -> str:
    """Return a figure as an element of the page; empty without a figure."""
    return "" if figure is None else drawing(figure, words)


# --- all measures ----------------------------------------------------------------------------


def _details(evidence: Plain, method: Plain) -> Iterator[dict[str, Any]]:
    """Yield the reasons and measures of a method, one forget set after the other."""
    for name, found in sets_of(method).items():
        judged = state_on(found)
        reasons = mapping(found.get("verdict")).get("reasons") or ()
        yield {
            "title": f"{method.get('method')} on forget set {name}{judged and f': {judged}'}",
            "configuration": _configuration(method),
            "reasons": [f"{reason[:1].upper()}{reason[1:]}." for reason in reasons],
            "measures": [*_measures(evidence, found), *_by_example(found), *_whole(found)],
        }


def _configuration(method: Plain) -> str:
    """Return which trial a method is, with its hyperparameters; empty for doing nothing."""
    if not method.get("study"):
        return ""
    given = [f"{name} = {value}" for name, value in mapping(method.get("parameters")).items()]
    epochs = finite(method.get("epochs"))
    trial = finite(method.get("trial"))
    which = "A trial" if trial is None else f"Trial {trial:.0f}"
    said = [f"{which} of the study {method['study']}"]
    said += [counted(int(epochs), "epoch")] if epochs is not None else []
    return f"{', '.join([*said, *given])}."


def _measures(evidence: Plain, found: Plain) -> Iterator[Mapping[str, str]]:
    for name, measure in mapping(found.get("measures")).items():
        margin = finite(mapping(evidence.get("margins")).get(name))
        bias = interval(measure)
        # A verdict corrects p for its own metrics only, the other measures for all of them.
        judged = mapping(mapping(mapping(found.get("verdict")).get("metrics")).get(name))
        yield {
            "name": name,
            "meaning": SALUN if name.startswith("mia/svc_") else MEANINGS.get(name, ""),
            "unlearned": _with_unit(measure.get("unlearned"), unit(name)),
            "retrained": _with_unit(measure.get("retrained"), unit(name)),
            "bias": _with_unit(measure.get("value"), measure.get("unit") or "", signed),
            "interval": bias.between(signed) if bias else "",
            "p": probability(judged.get("p", measure.get("p"))),
            "margin": ABSENT if margin is None else f"±{margin:g}",
        }


def _by_example(found: Plain) -> Iterator[Mapping[str, str]]:
    """Yield the attack by example: on forget images, then on retained ones."""
    for kind, known in mapping(found.get("per_example")).items():
        for name, meaning, write in (
            ("auc", "area under the curve; 0.5: models cannot be told apart", hundredths),
            ("excess_auc", "the same, minus that on images never trained on", signed_area),
            ("tpr_1", "% found at 1 % false alarms; 1 is chance", three_digits),
            ("excess_tpr_1", "the same in pp, minus that on images never trained on", signed),
        ):
            measured = interval(mapping(known).get(name))
            if measured:
                yield _single(
                    f"by example, {kind} images: {name}",
                    meaning,
                    write(measured.value),
                    measured.between(write),
                )


def _whole(found: Plain) -> Iterator[Mapping[str, str]]:
    """Yield the scores that compare all models of one kind with all of the other."""
    contest, tow = mapping(found.get("contest")), mapping(found.get("tow"))
    klom = mapping(found.get("klom"))
    if contest:
        ceiling = f"perfect unlearning has about {hundredths(contest.get('ceiling'))}, not 1"
        yield _single("contest/forgetting", ceiling, hundredths(contest.get("score")))
    if tow:
        own = f"retrained models have {hundredths(tow.get('own'))} among each other"
        yield _single("tow/acc", own, hundredths(tow.get("value")))
    if klom:
        ends = f"mean; 95th percentile {three_digits(klom.get('p95'))}"
        floors = ", ".join(
            f"{words} {three_digits(klom.get(name))}"
            for name, words in (("floor_mean", "retrained models"), ("chance_mean", "chance"))
        )
        yield _single("klom/mean", f"{ends}; {floors}", three_digits(klom.get("mean")))


def _single(name: str, meaning: str, value: str, between: str = "") -> Mapping[str, str]:
    """Return a measure that is itself a comparison, so there are no two numbers to compare."""
    absent = dict.fromkeys(("unlearned", "retrained", "p", "margin"), ABSENT)
    return {"name": name, "meaning": meaning, "bias": value, "interval": between, **absent}


def _with_unit(value: object, name: str, write: Any = three_digits) -> str:  # noqa: ANN401
    return f"{write(value)} {name}".strip() if finite(value) is not None else ABSENT


# --- limits and repetition -------------------------------------------------------------------


def limits(evidence: Plain) -> list[str]:
    """Return what the page does not claim; docs/evidence.md says more."""
    sets = ", ".join(str(each["name"]) for each in evidence.get("forget_sets") or ()) or ABSENT
    declared = mapping(evidence.get("margins")).items()
    said = ", ".join(f"{name} ±{margin:g}" for name, margin in declared if finite(margin))
    models = _scope({**evidence, "forget_sets": ()}).strip(" ()") or "few models"
    return [
        "It is no certificate, and no proof of erasure in a legal sense.",
        "It knows only these attacks and measures; another one may find what these do not.",
        f"“Equivalent” means within margins that were declared before anything ran: {said}.",
        f"Nothing is claimed on forget sets other than {sets}, on other data or other models.",
        f"Few models ({models}) of one recipe show large differences only; the intervals say "
        "which. Of another recipe, nothing is known.",
    ]


def _forget_sets(evidence: Plain) -> list[Mapping[str, str]]:
    return [
        {
            "name": str(each["name"]),
            "words": str(each.get("words") or ABSENT),
            "images": str(each.get("images") or ABSENT),
            "key": str(each.get("key") or ABSENT),
        }
        for each in evidence.get("forget_sets") or ()
    ]
