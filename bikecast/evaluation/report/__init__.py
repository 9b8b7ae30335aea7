"""A backtest as one page of HTML that needs nothing beside it: scores, and pictures inside."""

from bikecast.evaluation.report.page import report_html

__all__ = ["report_html"]
