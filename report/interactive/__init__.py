"""Interactive figures of a study, drawn with Plotly, for `report.html`.

Only a figure's template differs between a light and a dark page. Change it with
`Plotly.relayout(element, {template: DARK})`. Everything else is legible on both.
"""

from collections.abc import Mapping

from report.interactive.hyperparameters import CONTOUR, IMPORTANCE, PARALLEL_COORDINATES, SLICES
from report.interactive.panel import Panel, Recipe
from report.interactive.references import AGAINST_REFERENCES
from report.interactive.search import BEST_SO_FAR, LEARNING_CURVES
from report.interactive.sides import FORGETTING_AGAINST_RETAINING
from report.interactive.theme import DARK, LIGHT
from report.report_data import ReportData

RECIPES: Mapping[str, Recipe] = {
    "best_so_far": BEST_SO_FAR,
    "against_references": AGAINST_REFERENCES,
    "parallel_coordinates": PARALLEL_COORDINATES,
    "importance": IMPORTANCE,
    "slices": SLICES,
    "contour": CONTOUR,
    "learning_curves": LEARNING_CURVES,
    "forgetting_against_retaining": FORGETTING_AGAINST_RETAINING,
}


def figures(report_data: ReportData) -> dict[str, Panel]:
    """Return all figures by name, in the order in which a reader needs them."""
    return {name: recipe.panel(report_data) for name, recipe in RECIPES.items()}


__all__ = ["DARK", "LIGHT", "RECIPES", "Panel", "figures"]
