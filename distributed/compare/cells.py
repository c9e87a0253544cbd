"""The cells of a comparison: methods on the same problems, each searched with the same budget.

A cell is one study: a method on data, a task and labels, with one seed of the search.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from distributed.config.comparison import Comparison, Contender
from distributed.config.experiment import Experiment
from distributed.config.read import make_experiment
from distributed.plan.make import make_plan
from distributed.plan.plan import Plan
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS
from mixunlearn.tasks.written import level
from search_spaces.space import Choice, Space

KNOBS = 6  # maximal number of hyperparameters that vary: more would need more trials than others
AXES = ("data", "task", "labels", "method", "seed")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One study of a comparison, or the reason why there is none.

    Args:
        data, task, labels, method, seed: place of the cell, by the names in the comparison.
        experiment: experiment of the study; `None` if there is none.
        incompatible: why the method does not fit the task and labels; empty if it does.
    """

    data: str
    task: str
    labels: str
    method: str
    seed: int
    experiment: Experiment | None = None
    incompatible: str = ""

    @property
    def title(self) -> str:
        """Return the place of the cell, in words."""
        return f"{self.method} on {self.data}, {self.task}, label-{self.labels}, seed {self.seed}"


def cells(comparison: Comparison) -> list[Cell]:
    """Return all cells, problem by problem.

    Raises:
        InputError: an experiment is invalid for a reason other than its method, or no method fits.
    """
    # The method varies fastest: methods on one problem follow each other and share its references.
    found = [
        _cell(comparison, data, task, labels, method, seed)
        # Methods vary fastest: a comparison that is stopped has whole problems, not whole methods.
        for data, task, labels, seed, method in product(
            comparison.data,
            comparison.tasks,
            comparison.labels,
            comparison.seeds,
            comparison.methods,
        )
    ]
    if not any(cell.experiment for cell in found):
        raise InputError("methods", list(comparison.methods), f"none fits: {found[0].incompatible}")
    return found


def chosen(found: Sequence[Cell], only: str | None) -> list[Cell]:
    """Return the cells that `axis=name,…` selects; several names of one axis are alternatives.

    Raises:
        InputError: no such axis or name, or no selected cell has an experiment.
    """
    wanted: dict[str, set[str]] = {}
    for word in only.split(",") if only is not None else ():
        axis, _, name = (part.strip() for part in word.partition("="))
        if axis not in AXES:
            remedy = f"write axis=name, for example method=finetune; {known_names(axis, AXES)}"
            raise InputError("--only", word, remedy)
        # As text, because a seed is a number.
        names = list(dict.fromkeys(str(getattr(cell, axis)) for cell in found))
        if name not in names:
            raise InputError("--only", word, f"no such {axis}; {known_names(name, names)}")
        wanted.setdefault(axis, set()).add(name)
    some = [
        cell
        for cell in found
        if all(str(getattr(cell, axis)) in names for axis, names in wanted.items())
    ]
    if not any(cell.experiment for cell in some):
        raise InputError("--only", only, "leaves nothing to run; choose other cells")
    return some


class Plans:
    """The plans of cells, each made only once, because data sets and splits take time.

    Args:
        home: where results are kept.
        command: the command to name in error messages.
        local: whether trials run on this machine.
        planning: whether nothing will run: the machine may lack the resources.
    """

    def __init__(self, home: Path, *, command: str, local: bool, planning: bool = False) -> None:
        self.home, self._command = home, command
        self._local, self._planning = local, planning
        self._made: dict[str, Plan] = {}

    def of(self, cell: Cell) -> Plan:
        """Return the plan of a cell that has an experiment.

        Raises:
            InputError: the experiment cannot run as written, or too many hyperparameters vary.
        """
        assert cell.experiment is not None
        if cell.title not in self._made:
            plan = make_plan(
                cell.experiment,
                self.home,
                command=self._command,
                local=self._local,
                planning=self._planning,
            )
            _require_few_knobs(cell, plan.space, plan.facts)
            self._made[cell.title] = plan
        return self._made[cell.title]


def knobs(space: Space, facts: Mapping[str, Any]) -> list[str]:
    """Return the hyperparameters that a search varies."""
    return [
        name
        for name, parameter in space.items()
        if not parameter.fixed
        and space.reachable(name)
        # Conditions on facts only: one on another hyperparameter may be fulfilled in some trial.
        and all(facts[key] in allowed for key, allowed in parameter.when.items() if key in facts)
        and (
            len(parameter.options) > 1
            if isinstance(parameter, Choice)
            else parameter.low < parameter.high
        )
    ]


def _require_few_knobs(cell: Cell, space: Space, facts: Mapping[str, Any]) -> None:
    varied = knobs(space, facts)
    if len(varied) > KNOBS:
        remedy = f"varies {', '.join(varied)}, more than {KNOBS}; fix some of them"
        raise InputError(f"methods.{cell.method}.space", len(varied), remedy)


def _cell(
    comparison: Comparison, data: str, task: str, labels: str, method: str, seed: int
) -> Cell:
    contender = comparison.methods[method] or Contender()
    name = contender.method or method
    # Here, so that the message names the method's key in the comparison.
    if name not in METHODS:
        remedy = f"unknown; {known_names(name, METHODS)}"
        raise InputError(f"methods.{method}", contender.method, remedy)
    cell = Cell(data=data, task=task, labels=labels, method=method, seed=seed)
    incompatible = METHODS[name].incompatible(level(comparison.tasks[task]), labels)
    # Before the experiment is made, which would refuse this combination: it becomes "n/a".
    if incompatible:
        return replace(cell, incompatible=incompatible)
    own = {
        # The same for all cells, so that MLflow has all their studies in one experiment.
        "name": comparison.name,
        "task": comparison.tasks[task],
        "labels": labels,
        "method": name,
        "search": {"seed": seed, "space": contender.space},
    }
    content: dict[str, Any] = {}
    # The cell's own keys last: the shared part cannot change its place in the comparison.
    for layer in (comparison.experiment, comparison.data[data], own):
        content = merged(content, layer)
    return replace(cell, experiment=make_experiment(content))


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one; if both have a value, that of `above` is used."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def groups(found: Sequence[Cell]) -> Iterator[tuple[tuple[str, str, str], list[Cell]]]:
    """Yield each problem, as (data, task, labels), with its cells."""
    by_problem: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in found:
        by_problem.setdefault((cell.data, cell.task, cell.labels), []).append(cell)
    yield from by_problem.items()
