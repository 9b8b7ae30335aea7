"""Held against the past: rolling-origin backtests, and the scores of what they forecast."""

from bikecast.evaluation.backtest import backtest
from bikecast.evaluation.scores import score_models, score_overall

__all__ = ["backtest", "score_models", "score_overall"]
