"""A small neural network on counts: smooth where trees have steps, so the two err apart."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bikecast.features import NAMES
from bikecast.features.groups import ALL_IN_LEVEL, membership
from bikecast.features.recent import FRESH_HOURS, SYSTEM_NOW, SYSTEM_WINDOWS
from bikecast.history import Floats
from bikecast.models.base import Arrays, Grid, part, within
from bikecast.models.rows import Rows, recency

HIDDEN = (64, 32)
EPOCHS = 12
BATCH = 2_048
RATE, DECAY = 1e-3, 0.01
SEEDS = 4
"""Networks of which the mean of logarithms is taken: each ends somewhere else.

With observed weather, day-ahead, 84 days before 2018-07-16: MAE of one 3.472, of two 3.419, of four
3.405, of eight 3.396."""
HALF_LIFE_DAYS = 365
MOST_CHANGE = 3.0
"""Logarithms beyond it are cut, as in the count regression."""
MOST_DEVIATIONS = 5.0
STEPS = 24
"""Of the path along which a forecast is explained."""

_AT = {name: i for i, name in enumerate(NAMES)}
# The same for all stations: they would tell each day apart.
_SYSTEM = [f"system_{w}h" for w in SYSTEM_WINDOWS]
_FRESH = [*_SYSTEM[:2], *SYSTEM_NOW]
_LEFT_OUT = ("hour", "weekday", "yearday", *_SYSTEM, *SYSTEM_NOW)
_PLAIN = [name for name in NAMES if name not in _LEFT_OUT]
_YEAR = 365.25


def columns_of(short: bool) -> list[str]:
    """Of which feature each input of a network is made.

    :param short: it is asked for no more than the next ``FRESH_HOURS``.
    """
    plain = _PLAIN + _FRESH if short else _PLAIN
    return [*plain, *["hour"] * 24, *["weekday"] * 7, *["yearday"] * 2]


def inputs(values: Floats, short: bool) -> Floats:
    """Inputs before they are scaled, NaN where unknown: [rows, features] → [rows, inputs]."""
    plain = [_AT[name] for name in columns_of(short)[: -24 - 7 - 2]]
    hour, weekday = (values[:, _AT[name]].astype(np.int64) for name in ("hour", "weekday"))
    turn = 2 * np.pi * values[:, _AT["yearday"], None] / _YEAR
    return np.concatenate(
        [
            values[:, plain],
            np.eye(24, dtype=np.float32)[hour],
            np.eye(7, dtype=np.float32)[weekday],
            np.sin(turn),
            np.cos(turn),
        ],
        axis=1,
    ).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Layers:
    """Weights of one network; what is between its layers is cut at 0.

    :param weights: [inputs, outputs] of each layer; :param biases: [outputs] of each.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    def forward(self, x: Floats) -> list[Floats]:
        """What each layer is given, and what the last one says: [rows, …]."""
        found = [x]
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            out = found[-1] @ w + b
            found.append(out if i == len(self.weights) - 1 else np.maximum(out, 0))
        return found

    def backward(self, given: list[Floats], slope: Floats) -> list[Floats]:
        """The slope at the output [rows, 1], and what it is at that of each layer before."""
        found = [slope]
        for x, w in zip(given[-2:0:-1], self.weights[:0:-1], strict=True):
            slope = (slope @ w.T) * (x > 0)
            found.append(slope)
        return found


class Network:
    """Learns with Poisson loss by how much the level is off; the level is the offset.

    Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101), its rate
    falling along a cosine to 0. An unknown input counts as its mean.

    On the 84 days before 2018-07-16, New York, day-ahead: MAE 3.930 alone, trees alone 3.920, the
    geometric mean of both 3.864; with observed weather 3.405, 3.487 and 3.404. Twice the
    epochs made the mean with trees worse (3.877), half of the rows as well (3.881). Larger networks
    were tried with one seed only, where they differ by less than seeds do.
    """

    def __init__(self, grid: Grid) -> None:
        self._short = grid.horizon <= FRESH_HOURS
        self.params: dict[str, Any] = {
            "hidden": "x".join(map(str, HIDDEN)),
            "epochs": EPOCHS,
            "seeds": SEEDS,
            "learning_rate": RATE,
            "weight_decay": DECAY,
            "half_life_days": HALF_LIFE_DAYS,
        }
        self.centre = self.scale = np.zeros(0, np.float32)
        self.layers: list[Layers] = []

    def learn(self, rows: Rows, known: int) -> None:
        """Fit on all of these rows."""
        raw = inputs(rows.values, self._short)
        self.centre, self.scale = _centre_and_scale(raw)
        x, offset = self._scaled(raw), np.log(rows.level)
        weight = recency(rows, known, HALF_LIFE_DAYS)
        self.layers = [_trained(x, rows.actual, offset, weight, seed) for seed in range(SEEDS)]

    def _scaled(self, raw: Floats) -> Floats:
        deviations = (raw - self.centre) / self.scale
        found: Floats = np.clip(np.nan_to_num(deviations), -MOST_DEVIATIONS, MOST_DEVIATIONS)
        return found

    def _change(self, x: Floats) -> Floats:
        found: Floats = np.mean([layers.forward(x)[-1][:, 0] for layers in self.layers], axis=0)
        return found

    def means(self, values: Floats, level: Floats) -> Floats:
        """Bikes per hour of rows of features [rows, features] with these levels [rows]."""
        change = self._change(self._scaled(inputs(values, self._short)))
        return (level * np.exp(np.clip(change, -MOST_CHANGE, MOST_CHANGE))).astype(np.float32)

    def explain(self, values: Floats, level: Floats) -> Floats:
        """Integrated gradients from the mean row (Sundararajan et al. 2017, arXiv:1703.01365).

        What the steps leave of the sum, and what the mean row is off, belongs to the level; where
        a change is cut, it is cut of all.
        """
        x = self._scaled(inputs(values, self._short))
        slopes = np.zeros_like(x)
        for step in (np.arange(STEPS) + 0.5) / STEPS:
            for layers in self.layers:
                given = layers.forward(np.float32(step) * x)
                whole = np.ones_like(given[-1])
                slopes += (layers.backward(given, whole)[-1] @ layers.weights[0].T) / (
                    STEPS * len(self.layers)
                )
        logs = (slopes * x) @ membership(columns_of(self._short))
        change = self._change(x)
        logs += (change - logs.sum(axis=1))[:, None] * ALL_IN_LEVEL
        most = np.maximum(np.abs(change), MOST_CHANGE)[:, None]
        cut: Floats = (logs * (MOST_CHANGE / most)).astype(np.float32)
        return cut

    def portable(self) -> Arrays:
        """Weights of each network, and how inputs are scaled."""
        found = {"short": np.array(self._short), "centre": self.centre, "scale": self.scale}
        for i, layers in enumerate(self.layers):
            for j, (w, b) in enumerate(zip(layers.weights, layers.biases, strict=True)):
                found |= within(f"{i}", {f"weights{j}": w, f"biases{j}": b})
        return found

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self._short = bool(arrays["short"])
        self.centre, self.scale = arrays["centre"], arrays["scale"]
        self.layers = []
        while own := part(arrays, f"{len(self.layers)}"):
            places = range(len(own) // 2)
            kinds = (tuple(own[f"{kind}{j}"] for j in places) for kind in ("weights", "biases"))
            self.layers.append(Layers(*kinds))


def _centre_and_scale(raw: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of the known of each input; 0 and 1 where all are unknown or the same."""
    known = np.isfinite(raw)
    count = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, raw, 0).sum(axis=0, dtype=float) / count
    variance = np.where(known, raw - centre, 0)
    scale = np.sqrt(np.square(variance, dtype=float).sum(axis=0) / count)
    return centre.astype(np.float32), np.where(scale > 1e-6, scale, 1).astype(np.float32)


def _trained(x: Floats, actual: Floats, offset: Floats, weight: Floats, seed: int) -> Layers:
    rng = np.random.default_rng(seed)
    sizes = (x.shape[1], *HIDDEN, 1)
    # He et al. 2015 (arXiv:1502.01852); the last layer begins near no change.
    spreads = [np.sqrt(2 / size) for size in sizes[:-2]] + [0.1 * np.sqrt(2 / sizes[-2])]
    values = [
        rng.normal(0, spread, shape).astype(np.float32)
        for spread, shape in zip(spreads, zip(sizes, sizes[1:], strict=False), strict=True)
    ] + [np.zeros(size, np.float32) for size in sizes[1:]]
    count = len(HIDDEN) + 1
    layers = Layers(tuple(values[:count]), tuple(values[count:]))
    adam = _Adam(values)
    batches = max(len(x) // BATCH, 1)
    for epoch in range(EPOCHS):
        for i, rows in enumerate(np.array_split(rng.permutation(len(x)), batches)):
            given = layers.forward(x[rows])
            change = np.clip(given[-1][:, 0], -MOST_CHANGE, MOST_CHANGE)
            mean, w = np.exp(offset[rows] + change), weight[rows]
            slope = (w * (mean - actual[rows]) / w.sum()).astype(np.float32)[:, None]
            slopes = layers.backward(given, slope)[::-1]
            gradients = [a.T @ s for a, s in zip(given[:-1], slopes, strict=True)]
            gradients += [s.sum(axis=0) for s in slopes]
            done = (epoch * batches + i) / (EPOCHS * batches)
            adam.step(gradients, RATE * (1 + np.cos(np.pi * done)) / 2, decayed=count)
    return layers


class _Adam:
    """Kingma and Ba 2015 (arXiv:1412.6980); changes the values in place."""

    def __init__(self, values: list[Floats]) -> None:
        self.values, self.steps = values, 0
        self.first = [np.zeros_like(v) for v in values]
        self.second = [np.zeros_like(v) for v in values]

    def step(self, gradients: list[Floats], rate: float, *, decayed: int) -> None:
        """One step; the first ``decayed`` values shrink as well."""
        self.steps += 1
        for i, gradient in enumerate(gradients):
            self.first[i] += 0.1 * (gradient - self.first[i])
            self.second[i] += 0.001 * (np.square(gradient) - self.second[i])
            first = self.first[i] / (1 - 0.9**self.steps)
            second = self.second[i] / (1 - 0.999**self.steps)
            change: NDArray[np.floating] = first / (np.sqrt(second) + 1e-8)
            if i < decayed:
                change = change + DECAY * self.values[i]
            self.values[i] -= (rate * change).astype(np.float32)
