"""The bench of empty and full stations gives no forecast the help of hindsight."""

from dataclasses import replace

import numpy as np
import pytest

from bench.inventory import Feed, climatology, flows, forecast, origins, outcome, seen

DAY = 3
EVERY = 0.3  # hours between two snapshots


@pytest.fixture
def feed():
    """Five days of twenty stations of ten docks; the first loses three bikes and gets them back."""
    moment = np.arange(18, 5 * 24, EVERY)
    random = np.random.default_rng(3)
    bikes = random.integers(0, 11, (20, len(moment))).astype(float)
    bikes[0] = np.where(moment % 24 < 8, 9, np.where(moment % 24 < 18, 6, 9))
    bikes[1, 40:60] = np.nan
    return Feed(moment, np.stack([bikes, 10 - bikes]))


def scrambled(feed, later):
    """The same feed with other stocks in some snapshots."""
    stock = feed.stock.copy()
    bikes = np.random.default_rng(4).integers(0, 11, stock.shape[1:])
    stock[:, :, later] = np.stack([bikes, 10 - bikes])[:, :, later]
    return replace(feed, stock=stock)


def test_a_forecast_sees_nothing_of_its_day_but_the_stock_at_its_origin(feed):
    """Flows and climatology come from the days before, whatever the day brings."""
    later = feed.day >= DAY
    later[origins(feed, DAY)] = False
    changed = scrambled(feed, later)
    for made in (flows, climatology, forecast):
        assert np.array_equal(made(feed, DAY), made(changed, DAY), equal_nan=True)
    assert not np.array_equal(outcome(feed, DAY), outcome(changed, DAY), equal_nan=True)


def test_what_leaves_and_comes_is_seen_on_its_hour(feed):
    """Three bikes leave before eight and come before six, on each of two whole days."""
    moved, watched = seen(feed, (1, 2))
    assert moved[0, 0].nonzero()[0].tolist() == [7] and moved[0, 0, 7] == 6
    assert moved[1, 0].nonzero()[0].tolist() == [17] and moved[1, 0, 17] == 6
    assert watched[:, 0].sum() == pytest.approx(2 * 48, abs=2 * EVERY)


def test_flows_keep_the_balance_that_was_seen(feed):
    """The first station loses bikes in the morning and gains them in the evening."""
    pickups, returns = flows(feed, DAY)[:, 0]
    assert (flows(feed, DAY) >= 0).all()
    assert pickups[7] > returns[7] and pickups[17] < returns[17]


def test_stations_that_are_empty_or_full_at_the_origin_are_not_judged(feed):
    """Nor are those out of service then, nor moments without a snapshot near them."""
    came, at = outcome(feed, DAY), origins(feed, DAY)
    stock = feed.stock[:, :, at]
    assert np.isnan(came[~(stock > 0).all(axis=0)]).all()
    assert np.isfinite(came[(stock > 0).all(axis=0)]).all()
    cut = Feed(feed.moment[: at[-1] + 1], feed.stock[:, :, : at[-1] + 1])
    assert np.isnan(outcome(cut, DAY)[:, -1]).all()
