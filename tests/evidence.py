"""Made-up evidence for the gate: a station or more, errors of any size, and the facts around."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
from scipy.stats import norm

from bikecast.evaluation.gate import Evidence, Facts
from bikecast.records import QUANTILE_COLUMNS, QUANTILES

START = datetime(2018, 5, 1)
LEVEL = 20.0


def made_rows(own=1.0, champion=1.0, naive=2.0, days=28, stations=("a", "b", "c"), seed=1):
    """Rows of a city where 20 bikes come every hour, but for chance.

    :param own: standard deviation of the challenger's errors; the others' are theirs.
    """
    rng = np.random.default_rng(seed)
    hours = np.datetime64(START, "us") + np.arange(days * 24) * np.timedelta64(1, "h")
    n = len(hours) * len(stations)
    actual = LEVEL + rng.standard_normal(n)

    def mean(deviation):
        # What everybody errs by, and then some.
        return LEVEL + np.sqrt(max(deviation**2 - 1, 0)) * rng.standard_normal(n)

    levels = {c: LEVEL + own * norm.ppf(q) for c, q in zip(QUANTILE_COLUMNS, QUANTILES)}
    return pl.DataFrame(
        {
            "origin": np.tile(hours, len(stations)),
            "station_id": np.repeat(stations, len(hours)),
            "hour": np.tile(hours, len(stations)),
            "target": "pickups",
            "challenger": mean(own),
            "champion": mean(champion),
            "naive": mean(naive),
            "mean4w": mean(naive),
            **levels,
            "actual": actual,
            "rain": np.nan,
        }
    ).with_columns(pl.col("rain").fill_nan(None))


def made_evidence(model="glm", *, champion="", rows=None, **facts):
    """Evidence that passes, but for what is given.

    :param champion: the version that was in production at the training.
    """
    good = {"mae": 1.0, "rmse": 1.2, "net_flow_mae": 5.0}
    worse = {"mae": 2.0, "rmse": 2.4, "net_flow_mae": 8.0}
    known = {
        "start": START.isoformat(),
        "days": 28,
        "data_until": "2018-05-29T00:00:00",
        "scores": {"challenger": good, "champion": good, "naive": worse, "mean4w": worse},
        "champion": champion,
        "champion_until": "2018-05-22T00:00:00" if champion else "",
        "leak": 0.0,
        "weekly_rides": [1000.0] * 10,
        "first_hours": dict.fromkeys(("a", "b", "c"), (START - timedelta(days=90)).isoformat()),
        "stations": 3,
    }
    return Evidence(made_rows() if rows is None else rows, Facts(model=model, **known | facts))
