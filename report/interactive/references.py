"""The tested configurations next to the retrained references, on `test`."""

from collections.abc import Iterator, Sequence
from typing import Any

import plotly.graph_objects as go

from mixunlearn.wording import counted
from report.interactive.panel import Recipe
from report.interactive.pieces import Trace, plotly_figure, subplot
from report.interactive.theme import END, SHADE, SYMBOLS
from report.notation import unit_name
from report.plots.drawing import BLUE, GREEN
from report.plots.strips import BESIDE, Sample, range_of, samples_of
from report.report_data import ReportData


def against_references(report_data: ReportData) -> go.Figure:
    """Draw one strip per metric: each configuration next to the retrained references."""
    metrics = [*report_data.summary["gap_metrics"], *BESIDE]
    strips = {metric: samples_of(report_data.summary, metric) for metric in metrics}
    strips = {name: found for name, found in strips.items() if any(each.values for each in found)}
    lines = max(1, -(-len(strips) // 2))
    parts: dict[str, list[Any]] = {"traces": [], "shapes": [], "annotations": []}
    axes: dict[str, Any] = {}
    for place, (metric, samples) in enumerate(strips.items(), start=1):
        axes |= _strip_axes(samples, place)
        parts["traces"] += [t for row, each in enumerate(samples) for t in _spots(each, row, place)]
        parts["shapes"] += _expected(samples[0], place)
        parts["annotations"] += _strip_words(metric, samples, place)
    grid = {"rows": lines, "columns": 2, "pattern": "independent", "xgap": 0.4, "ygap": 0.4}
    margin = {"l": 130, "r": 120, "t": 40, "b": 30}
    return plotly_figure(
        height=60 + 170 * lines, grid=grid, margin=margin, showlegend=False, **parts, **axes
    )


def _strip_axes(samples: Sequence[Sample], place: int) -> dict[str, Any]:
    low, high = range_of(samples)
    # All values may be equal: an axis of no length cannot be drawn.
    margin = 0.08 * (high - low) or 0.5
    # Only on the left of the two columns: both have the same rows.
    names = [sample.label for sample in samples] if place % 2 else [""] * len(samples)
    rows = {"tickvals": list(range(len(samples))), "ticktext": names, "showgrid": False}
    return {
        f"xaxis{place}": {"range": [low - margin, high + margin], "nticks": 6},
        f"yaxis{place}": {"range": [len(samples) - 0.4, -0.6], **rows},
    }


def _spots(sample: Sample, row: int, place: int) -> Iterator[Trace]:
    """Yield single values as hollow points, and the mean of several with its sd."""
    common = {
        "type": "scatter",
        "mode": "markers",
        **subplot(place),
        "hovertemplate": f"{sample.label}: %{{x:.4~g}}{END}",
    }
    colour = None if sample.colour == BLUE else sample.colour  # the best has the page's text colour
    if sample.values and (len(sample.values) > 1 or not sample.marker):
        marker = {"symbol": "circle-open", "size": 8, "color": colour}
        yield {**common, "x": sample.values, "y": [row] * len(sample.values), "marker": marker}
    if sample.marker and sample.mean is not None:
        marker = {"symbol": SYMBOLS[sample.marker], "size": 10, "color": colour}
        interval = {"array": [sample.sd or 0.0], "visible": sample.sd is not None}
        yield {**common, "x": [sample.mean], "y": [row], "marker": marker, "error_x": interval}


def _expected(references: Sample, place: int) -> list[dict[str, Any]]:
    """Return the references' mean ± sd, over the height of a strip."""
    if references.mean is None:
        return []
    sd = references.sd or 0.0
    x, y = subplot(place).values()
    common = {"xref": x, "yref": f"{y} domain", "y0": 0, "y1": 1}
    ends = {"x0": references.mean - sd, "x1": references.mean + sd}
    middle = {"x0": references.mean, "x1": references.mean, "line": {"color": GREEN, "width": 1.5}}
    return [{**SHADE, **common, **ends}, {"type": "line", "layer": "below", **common, **middle}]


def _strip_words(metric: str, samples: Sequence[Sample], place: int) -> list[dict[str, Any]]:
    """Return the metric above a strip and the values next to it, with an arrow if off the scale."""
    low, high = range_of(samples)
    unit = f" ({unit_name(metric)})" if unit_name(metric) else ""
    x, y = subplot(place).values()
    common = {"xref": f"{x} domain", "xanchor": "left", "showarrow": False}
    above = {"x": 0, "y": 1.02, "yref": f"{y} domain", "yanchor": "bottom"}
    words = [{**common, **above, "text": f"<b>{metric}</b>{unit}"}]
    for row, sample in enumerate(samples):
        mean = low if sample.mean is None else sample.mean
        arrow = " →" if mean > high else " ←" if mean < low else ""
        beside = {"x": 1.03, "y": row, "yref": y, "font": {"size": 11}}
        words.append({**common, **beside, "text": sample.text + arrow})
    return words


def _no_verdict(report_data: ReportData) -> str:
    if report_data.summary.get("gap_metrics") and report_data.summary.get("references"):
        return ""
    return "There is no verdict yet: the best trials are evaluated on test when the sweep ends."


def _against_references_caption(report_data: ReportData) -> str:
    counts = [found.get("n") or 0 for found in report_data.summary["references"].values()]
    return (
        "Metrics on test, which the search did not use, as values or mean ± sd (n). Green: mean ± "
        f"sd of {counted(max(counts, default=0), 'retrained reference')}; hollow points: single "
        "models; an arrow: a value off the scale, double-click to see it."
    )


AGAINST_REFERENCES = Recipe(
    title="Metrics against the references",
    draw=against_references,
    caption=_against_references_caption,
    missing=_no_verdict,
)
