"""Held against the past: rolling-origin backtests, and the scores of what they forecast."""

from bikecast.evaluation.backtest import backtest
from bikecast.evaluation.bands import negative_binomial_pinball
from bikecast.evaluation.remarks import remarks
from bikecast.evaluation.scores import score_models, score_overall

__all__ = ["backtest", "negative_binomial_pinball", "remarks", "score_models", "score_overall"]
