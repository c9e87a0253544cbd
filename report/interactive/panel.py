"""A figure with its title and caption, and how it is made from report data."""

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go

from report.report_data import ReportData


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A figure with its title and caption.

    Args:
        title: a few words.
        caption: what is shown, for how many trials, and how to read it; or why there is no figure.
        figure: `None` if there is nothing to show.
    """

    title: str
    caption: str
    figure: go.Figure | None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a panel is made.

    Args:
        title: title of the panel.
        draw: returns its figure.
        caption: returns its caption.
        missing: returns why there is nothing to draw; empty if there is something.
    """

    title: str
    draw: Callable[[ReportData], go.Figure]
    caption: Callable[[ReportData], str]
    missing: Callable[[ReportData], str]

    def panel(self, report_data: ReportData) -> Panel:
        """Return the panel of report data."""
        reason = self.missing(report_data)
        if reason:
            return Panel(title=self.title, caption=reason, figure=None)
        return Panel(
            title=self.title, caption=self.caption(report_data), figure=self.draw(report_data)
        )
