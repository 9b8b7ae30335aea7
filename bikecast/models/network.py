"""A small neural network on counts: smooth where trees have steps, so the two err apart."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bikecast.features import NAMES
from bikecast.features.groups import ALL_IN_LEVEL, membership
from bikecast.features.recent import FRESH_HOURS, SYSTEM_NOW, SYSTEM_WINDOWS
from bikecast.features.sky import COLUMNS, RAIN
from bikecast.history import Floats, Ints
from bikecast.models.base import Arrays, Grid, part, within
from bikecast.models.rows import Rows, cut, filled, recency

HIDDEN = (64, 32)
EPOCHS = 12
BATCH = 2_048
RATE, DECAY = 1e-3, 1.0
"""Of the decay, alone on the days of :class:`Network`, two seeds: day-ahead 3.954 instead of 3.975;
after half a year 3.862 instead of 3.894 with 0.01, and 3.356 instead of 3.372 two hours ahead; two
hours ahead where stations are told apart 3.178 instead of 3.199."""
SEEDS = 4
"""Networks of which the mean of logarithms is taken: each ends somewhere else.

With observed weather, day-ahead, 84 days before 2018-07-16, rain in mm: MAE of one 3.472, of two
3.419, of four 3.405, of eight 3.396."""
HALF_LIFE_DAYS = 365
MOST_CHANGE = 3.0
"""Logarithms beyond it are cut, as in the count regression."""
MOST_DEVIATIONS = 5.0
UNKNOWN_SHARE = 0.05
"""Of the rows of a fit, that do not say whose they are: so a station without a past is met."""
UNKNOWN_SHARE_WITH_WEATHER = 0.25
"""Day-ahead with observed weather, learned from 24 stations, MAE at these and at six that no fit
had met: 3.425 and 3.418 with 0.05, 3.428 and 3.388 with this, 3.431 and 3.372 with 0.5; where
nobody is told apart 3.358 at the six."""
FEW = 8
"""Rows that all networks are asked for at once."""
STEPS = 24
"""Of the path along which a forecast is explained."""

_AT = {name: i for i, name in enumerate(NAMES)}
# The same for all stations: they would tell each day apart.
_SYSTEM = [f"system_{w}h" for w in SYSTEM_WINDOWS]
_FRESH = [*_SYSTEM[:2], *SYSTEM_NOW]
_LEFT_OUT = ("hour", "weekday", "yearday", "station", *_SYSTEM, *SYSTEM_NOW)
_PLAIN = [name for name in NAMES if name not in _LEFT_OUT]
_OF_STATION = membership(["station"])[0]
_YEAR = 365.25
_RAIN_OF_SKY = np.array([COLUMNS.index(name) for name in RAIN])
_ONE_OF = {count: np.eye(count, dtype=np.float32) for count in (24, 7)}


def columns_of(short: bool) -> list[str]:
    """Of which feature each input of a network is made.

    :param short: it is asked for no more than the next ``FRESH_HOURS``.
    """
    plain = _PLAIN + _FRESH if short else _PLAIN
    return [*plain, *["hour"] * 24, *["weekday"] * 7, *["yearday"] * 2]


def inputs(values: Floats, short: bool) -> Floats:
    """Inputs before they are scaled, NaN where unknown: [rows, features] → [rows, inputs].

    Rain as its logarithm: in mm a heavy hour is so far out that it would be cut. With observed
    weather, day-ahead, that gains 0.2 % alone and 0.1 % with trees.
    """
    places, rain = _places(short)
    plain = values[:, places]
    plain[:, rain] = np.log1p(np.maximum(plain[:, rain], 0))
    hour, weekday = (values[:, _AT[name]].astype(np.int64) for name in ("hour", "weekday"))
    turn = 2 * np.pi * values[:, _AT["yearday"], None] / _YEAR
    return np.concatenate(
        [
            plain,
            _ONE_OF[24][hour],
            _ONE_OF[7][weekday],
            np.sin(turn),
            np.cos(turn),
        ],
        axis=1,
    ).astype(np.float32, copy=False)


@cache
def _places(short: bool) -> tuple[Ints, Ints]:
    """Of the plain columns among the features, and of those that are mm among them."""
    names = columns_of(short)[: -24 - 7 - 2]
    rain = [i for i, name in enumerate(names) if name in RAIN]
    return np.array([_AT[name] for name in names]), np.array(rain)


@dataclass(frozen=True, eq=False)
class Layers:
    """Weights of one network; what is between its layers is cut at 0.

    Or of several, with another axis before the others, for all that they say at once.

    :param weights: [inputs, outputs] of each layer; :param biases: [outputs] of each.
    :param own: the part of each flow of each station in what the first layer says,
        [flows + 1, outputs]; the last row is 0, and that of all others.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    own: Floats

    def parts(self, whose: Ints) -> Floats:
        """What rows of ``own`` add to what the first layer says, [rows, outputs].

        Of which it is, a row says as loudly as an input can: so ``own`` learns as fast.
        """
        # Where nobody is told apart, one row of zeros does for all.
        own = self.own[..., whose, :] if self.own.shape[-2] > 1 else self.own
        found: Floats = MOST_DEVIATIONS * own
        return found

    def forward(self, x: Floats, parts: Floats) -> list[Floats]:
        """What each layer is given, and what the last one says: [rows, …]."""
        found = [x]
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            out = found[-1] @ w + b
            if i == 0:
                out += parts
            found.append(out if i == len(self.weights) - 1 else np.maximum(out, 0))
        return found

    def backward(self, given: list[Floats], slope: Floats) -> list[Floats]:
        """The slope at the output [rows, 1], and what it is at that of each layer before."""
        found = [slope]
        for x, w in zip(given[-2:0:-1], self.weights[:0:-1], strict=True):
            slope = (slope @ w.T) * (x > 0)
            found.append(slope)
        return found


def together(networks: list[Layers]) -> Layers:
    """Several networks as one: for a few rows, most of the time of each is spent on calls."""
    weights, biases = (
        tuple(np.stack(layer) for layer in zip(*kind, strict=True))
        for kind in ([n.weights for n in networks], [n.biases for n in networks])
    )
    own = np.stack([network.own for network in networks])
    return Layers(weights, tuple(bias[:, None] for bias in biases), own)


@dataclass(frozen=True, eq=False)
class NetworkUnderSky:
    """Rows of which only the weather is open.

    :param layers: of several networks at once.
    :param fixed: what all else makes the first layer say, [networks, rows, outputs].
    :param first: weights of the weather in it, [columns, networks * outputs].
    :param centre: … and ``scale`` of the columns.
    """

    layers: Layers
    fixed: Floats
    first: Floats
    centre: Floats
    scale: Floats

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.fixed.nbytes

    def changes(self, rows: slice, sky: Floats) -> Floats:
        """As :meth:`bikecast.models.learned.Open.changes`."""
        raw = sky.copy()
        raw[_RAIN_OF_SKY] = np.log1p(np.maximum(raw[_RAIN_OF_SKY], 0))
        x = cut(filled((raw - self.centre) / self.scale), MOST_DEVIATIONS)
        said = self.fixed[:, rows] + (x @ self.first).reshape(len(self.fixed), 1, -1)
        for w, b in zip(self.layers.weights[1:], self.layers.biases[1:], strict=True):
            said = np.maximum(said, 0) @ w + b
        found: Floats = cut(said[..., 0].sum(axis=0) / len(said), MOST_CHANGE)
        return found


class Network:
    """Learns with Poisson loss by how much the level is off; the level is the offset.

    Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101), its rate
    falling along a cosine to 0. An unknown input counts as its mean.

    On the 84 days before 2018-07-16, New York, day-ahead: MAE 3.936 alone, trees alone 3.899, the
    geometric mean of both 3.873; with observed weather 3.440, 3.432 and 3.394. With a decay of
    0.01, twice the epochs or half of the rows made the mean with trees worse. Larger networks were
    tried with one seed only, where they differ by less than seeds do.

    After a year of history each flow of each station also has a part of its own, as in an
    embedding (Guo and Berkhahn 2016, arXiv:1604.06737), up to ``FRESH_HOURS`` ahead and where the
    weather is known. Rain keeps riders from some stations more than from others: what came in wet
    hours to what the level had said differs by 10 % between stations, and in the same order in
    either half of the days. Day-ahead with observed weather: 3.405 instead of 3.433 alone, 3.366
    instead of 3.391 in the ensemble. Two hours ahead: 3.178 instead of 3.218 alone, 3.172 instead
    of 3.199 with trees, and at six stations that no fit had met 3.426 instead of 3.432 alone. With
    a decay of 0.01 it was worse at those (3.467), and after half a year at all (3.383 instead of
    3.367). Day-ahead without weather it gained nothing (3.941 instead of 3.936; two seeds).

    :param grid: what will be asked; :param year: a year of history is there; :param weather: the
        rows know their weather, as in ``Task``.
    """

    def __init__(self, grid: Grid, year: bool, weather: bool) -> None:
        self._short = grid.horizon <= FRESH_HOURS
        self._apart = year and (self._short or weather)
        self._unknown = UNKNOWN_SHARE_WITH_WEATHER if weather else UNKNOWN_SHARE
        self.params: dict[str, Any] = {
            "hidden": "x".join(map(str, HIDDEN)),
            "epochs": EPOCHS,
            "seeds": SEEDS,
            "learning_rate": RATE,
            "weight_decay": DECAY,
            "half_life_days": HALF_LIFE_DAYS,
        }
        self.centre = self.scale = np.zeros(0, np.float32)
        self.flows = np.zeros(0, np.int64)
        self.layers: list[Layers] = []

    _together: Layers | None = None
    """Of those that were restored."""

    def learn(self, rows: Rows, known: int) -> None:
        """Fit on all of these rows."""
        raw = inputs(rows.values, self._short)
        self.centre, self.scale = _centre_and_scale(raw)
        x, offset = self._scaled(raw), np.log(rows.level)
        weight = recency(rows, known, HALF_LIFE_DAYS)
        if self._apart:
            self.flows = np.unique(_flow(rows.values))
        whose = self._whose(rows.values), len(self.flows), self._unknown
        given = x, *whose, rows.actual, offset, weight
        self.layers = [_trained(*given, seed) for seed in range(SEEDS)]

    def _whose(self, values: Floats) -> Ints:
        """Which row of ``own`` is that of each row of features."""
        unknown = len(self.flows)
        if not unknown:
            return np.zeros(len(values), np.int64)
        flow = _flow(values)
        at = np.searchsorted(self.flows, flow)
        same = np.append(self.flows, -1)[at] == flow
        return np.where(same, at, unknown)

    def _scaled(self, raw: Floats) -> Floats:
        deviations = (raw - self.centre) / self.scale
        return cut(filled(deviations), MOST_DEVIATIONS)

    def _change(self, x: Floats, whose: Ints) -> Floats:
        # Of many rows, what all networks say between layers would take four times the memory.
        if self._together and len(x) <= FEW:
            said = self._together.forward(x, self._together.parts(whose))[-1][..., 0]
        else:
            said = np.stack([n.forward(x, n.parts(whose))[-1][:, 0] for n in self.layers])
        found: Floats = said.mean(axis=0)
        return found

    def means(self, values: Floats, level: Floats) -> Floats:
        """Bikes per hour of rows of features [rows, features] with these levels [rows]."""
        change = self._change(self._scaled(inputs(values, self._short)), self._whose(values))
        found: Floats = (level * np.exp(cut(change, MOST_CHANGE))).astype(np.float32)
        return found

    def under_sky(self, values: Floats, level: Floats) -> "NetworkUnderSky":
        """The same rows, with the weather open."""
        layers, first = self._open
        sky = self._sky
        x = self._scaled(inputs(values, self._short))
        x[:, sky] = 0
        fixed = x @ layers.weights[0] + layers.biases[0] + layers.parts(self._whose(values))
        return NetworkUnderSky(layers, fixed, first, self.centre[sky], self.scale[sky])

    @property
    def _sky(self) -> slice:
        """The columns of the weather among the inputs."""
        names = columns_of(self._short)
        return slice(names.index(COLUMNS[0]), names.index(COLUMNS[-1]) + 1)

    @cached_property
    def _open(self) -> tuple[Layers, Floats]:
        """All networks at once, and their first weights of the weather: the same of all rows."""
        layers = self._together or together(self.layers)
        return layers, np.concatenate(list(layers.weights[0][:, self._sky]), axis=1)

    def explain(self, values: Floats, level: Floats) -> Floats:
        """Integrated gradients from the mean row of a station that nobody knows.

        See Sundararajan et al. 2017, arXiv:1703.01365.

        What the steps leave of the sum, and what the mean row is off, belongs to the level; where
        a change is cut, it is cut of all.
        """
        x, whose = self._scaled(inputs(values, self._short)), self._whose(values)
        slopes, own = np.zeros_like(x), np.zeros(len(x), np.float32)
        for step in ((np.arange(STEPS) + 0.5) / STEPS).astype(np.float32):
            for layers in self.layers:
                given = layers.forward(step * x, step * layers.parts(whose))
                slope = layers.backward(given, np.ones_like(given[-1]))[-1]
                slopes += slope @ layers.weights[0].T
                own += (slope * layers.parts(whose)).sum(axis=1)
        logs = (slopes * x) @ membership(columns_of(self._short)) + own[:, None] * _OF_STATION
        logs /= STEPS * len(self.layers)
        change = self._change(x, whose)
        logs += (change - logs.sum(axis=1))[:, None] * ALL_IN_LEVEL
        most = np.maximum(np.abs(change), MOST_CHANGE)[:, None]
        cut: Floats = (logs * (MOST_CHANGE / most)).astype(np.float32)
        return cut

    def portable(self) -> Arrays:
        """Weights of each network, and how inputs are scaled."""
        found = {"short": np.array(self._short), "centre": self.centre, "scale": self.scale}
        found["flows"] = self.flows
        for i, layers in enumerate(self.layers):
            found |= within(f"{i}", {"own": layers.own})
            for j, (w, b) in enumerate(zip(layers.weights, layers.biases, strict=True)):
                found |= within(f"{i}", {f"weights{j}": w, f"biases{j}": b})
        return found

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self._short = bool(arrays["short"])
        self.centre, self.scale = arrays["centre"], arrays["scale"]
        self.flows = arrays["flows"]
        self.layers = []
        while own := part(arrays, f"{len(self.layers)}"):
            places = range(len(own) // 2)
            weights, biases = (
                tuple(own[f"{kind}{j}"] for j in places) for kind in ("weights", "biases")
            )
            self.layers.append(Layers(weights, biases, own["own"]))
        self._together = together(self.layers)


def _centre_and_scale(raw: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of the known of each input; 0 and 1 where all are unknown or the same."""
    known = np.isfinite(raw)
    count = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, raw, 0).sum(axis=0, dtype=float) / count
    variance = np.where(known, raw - centre, 0)
    scale = np.sqrt(np.square(variance, dtype=float).sum(axis=0) / count)
    return centre.astype(np.float32), np.where(scale > 1e-6, scale, 1).astype(np.float32)


def _flow(values: Floats) -> Ints:
    """A number for the station and the target of each row of features."""
    station, returns = (values[:, _AT[name]].astype(np.int64) for name in ("station", "returns"))
    return 2 * station + returns


def _trained(
    x: Floats,
    whose: Ints,
    flows: int,
    unknown: float,
    actual: Floats,
    offset: Floats,
    weight: Floats,
    seed: int,
) -> Layers:
    rng, unsaid = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    sizes = (x.shape[1], *HIDDEN, 1)
    # He et al. 2015 (arXiv:1502.01852); the last layer begins near no change.
    spreads = [np.sqrt(2 / size) for size in sizes[:-2]] + [0.1 * np.sqrt(2 / sizes[-2])]
    values = [
        rng.normal(0, spread, shape).astype(np.float32)
        for spread, shape in zip(spreads, zip(sizes, sizes[1:], strict=False), strict=True)
    ]
    values += [np.zeros((flows + 1, HIDDEN[0]), np.float32)]
    values += [np.zeros(size, np.float32) for size in sizes[1:]]
    count = len(HIDDEN) + 1
    layers = Layers(tuple(values[:count]), tuple(values[count + 1 :]), values[count])
    adam = _Adam(values, [DECAY] * (count + 1) + [0.0] * count)
    batches = max(len(x) // BATCH, 1)
    for epoch in range(EPOCHS):
        for i, rows in enumerate(np.array_split(rng.permutation(len(x)), batches)):
            own = np.where(unsaid.random(len(rows)) < unknown, flows, whose[rows])
            given = layers.forward(x[rows], layers.parts(own))
            change = np.clip(given[-1][:, 0], -MOST_CHANGE, MOST_CHANGE)
            mean, w = np.exp(offset[rows] + change), weight[rows]
            slope = (w * (mean - actual[rows]) / w.sum()).astype(np.float32)[:, None]
            slopes = layers.backward(given, slope)[::-1]
            gradients = [a.T @ s for a, s in zip(given[:-1], slopes, strict=True)]
            gradients += [sums(slopes[0], own, flows)]
            gradients += [s.sum(axis=0) for s in slopes]
            done = (epoch * batches + i) / (EPOCHS * batches)
            adam.step(gradients, RATE * (1 + np.cos(np.pi * done)) / 2)
    return layers


def sums(slopes: Floats, whose: Ints, flows: int) -> Floats:
    """Slopes of ``Layers.own`` from those at the first layer's outputs: [flows + 1, outputs].

    That of the last row, of all others, is 0, so that it stays what it is.
    """
    from scipy import sparse

    size, rows = np.full(len(whose), MOST_DEVIATIONS, np.float32), np.arange(len(whose))
    found: Floats = sparse.csr_array((size, (whose, rows)), shape=(flows + 1, len(whose))) @ slopes
    found[-1] = 0
    return found


class _Adam:
    """Kingma and Ba 2015 (arXiv:1412.6980); changes the values in place."""

    def __init__(self, values: list[Floats], decays: list[float]) -> None:
        self.values, self.decays, self.steps = values, decays, 0
        self.first = [np.zeros_like(v) for v in values]
        self.second = [np.zeros_like(v) for v in values]

    def step(self, gradients: list[Floats], rate: float) -> None:
        """One step; values shrink towards 0 as well, each by its decay."""
        self.steps += 1
        for i, gradient in enumerate(gradients):
            self.first[i] += 0.1 * (gradient - self.first[i])
            self.second[i] += 0.001 * (np.square(gradient) - self.second[i])
            first = self.first[i] / (1 - 0.9**self.steps)
            second = self.second[i] / (1 - 0.999**self.steps)
            change: NDArray[np.floating] = first / (np.sqrt(second) + 1e-8)
            change = change + self.decays[i] * self.values[i]
            self.values[i] -= (rate * change).astype(np.float32)
