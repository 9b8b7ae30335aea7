"""What hours of the second week are worth, where both weeks end before 2018-07-16.

`nox -s bench -- second_week`, some ten minutes. The model is fitted as for serving on the days
before the first origin, without weather, and asked as the service asks it: from what is kept beside
a table. No day on which results are reported elsewhere is loaded.
"""

from dataclasses import replace

import numpy as np
from new_york import REFERENCE, before_reference

from bikecast.cli.backtest import DEFAULT_MODEL as CHAMPION
from bikecast.cli.terminal import print_table
from bikecast.features import NAMES, pairs, weekly_mean
from bikecast.history import Floats, History
from bikecast.models import MODELS
from bikecast.models.base import Explainable
from bikecast.records import KEPT_HORIZON
from bikecast.train import ROWS, SERVING_GRID

ORIGINS = 28
PARTS = {"145-168": slice(144, 168), "169-192": slice(168, 192), "169-336": slice(168, 336)}


def errors(history: History, model: Explainable, origins: list[int]) -> tuple[Floats, Floats]:
    """Of the model and of the mean of the last four weeks known: [origins, hours, stations, 2]."""
    found: tuple[list[Floats], list[Floats]] = ([], [])
    for origin in origins:
        asked = np.array([origin])
        inputs = model.inputs(history, asked, KEPT_HORIZON)
        rows = inputs.values.reshape(-1, len(NAMES)), inputs.level.ravel()
        mean = model.forecasts(*rows).mean.reshape(inputs.level.shape)
        came = history.flows[:, origin : origin + KEPT_HORIZON].transpose(1, 0, 2)
        weekly = weekly_mean(history, *pairs(asked, KEPT_HORIZON), 4)
        # On the same hours: those that both have.
        known = np.where(np.isnan(weekly), np.float32(np.nan), came)
        for missed, said in zip(found, (mean, weekly), strict=True):
            missed.append(np.abs(said - known))
    return np.array(found[0]), np.array(found[1])


def main() -> None:
    """Print MAE by hours ahead, of all hours and of the days that both weeks reach."""
    history = before_reference()
    last = history.index(REFERENCE) - KEPT_HORIZON
    origins = [last - 24 * back for back in reversed(range(ORIGINS))]
    model = MODELS[CHAMPION]()
    model.fit(history.until(origins[0]), replace(SERVING_GRID, rows=ROWS))
    own, weekly = errors(history, model, origins)
    at = np.array(origins)[:, None] + np.arange(KEPT_HORIZON)
    both = (at >= origins[0] + KEPT_HORIZON - 24) & (at < last + 168)
    rows = []
    for name, part in PARTS.items():
        cells = [of[:, part] for of in (own, weekly)]
        cells += [of[:, part][both[:, part]] for of in (own, weekly)]
        rows.append([name, *(f"{np.nanmean(cell, dtype=float):.3f}" for cell in cells)])
    columns = ["hours ahead", CHAMPION, "4-week mean", f"{CHAMPION}, same days", "4-week mean"]
    print_table(f"MAE of {ORIGINS} origins from {history.hour(origins[0]):%Y-%m-%d}", columns, rows)


if __name__ == "__main__":
    main()
