"""What `bikecast stock` makes of a table, and prints."""

from dataclasses import replace

import polars as pl
import pytest
from fakes import PLACES, published

from bikecast.cli.stock import _counted, _document, _print_stocks, _stocks
from bikecast.errors import InputError
from bikecast.serve.table import build_table


def table(**changes):
    """Three stations of which one has no known capacity, another no returns."""
    made = published()
    busy, other = (made.frame.filter(pl.col("station_id") == s) for s in ("A.10", "B"))
    quiet = busy.with_columns(station_id=pl.lit("C"), mean=pl.col("mean") / 10)
    lonely = busy.filter(pl.col("target") == "pickups").with_columns(station_id=pl.lit("D"))
    frame = pl.concat([busy, other, quiet, lonely])
    docks = (replace(PLACES[0], station_id=s, capacity=20) for s in "CD")
    made = replace(made, frame=frame, stations=(*PLACES, *docks))
    return build_table(replace(made, **changes))


def ids(found):
    """Those of the stations in order."""
    return [s.station_id for s in found]


def test_the_most_worthwhile_comes_first_and_others_are_counted():
    """By the worst stock where no bikes are given; one that lacks something stops no other."""
    found, skipped = _stocks(table(), [2, 0, 1, 3], 6, 24, {})
    assert ids(found) == ["A.10", "C"]
    assert skipped == {"without a known capacity": 1, "not forecast for every hour": 1}


def test_stations_whose_bikes_are_given_come_before_the_others():
    """What a stock avoids is known of them; of two, the one that avoids more."""
    assert ids(_stocks(table(), [0, 2], 6, 24, {2: 0})[0]) == ["C", "A.10"]
    assert ids(_stocks(table(), [2, 0], 6, 24, {2: 5, 0: 0})[0]) == ["A.10", "C"]


def test_where_no_station_is_left_the_answer_is_an_error():
    """With the reasons; of one alone, with its own."""
    with pytest.raises(InputError, match="can be stocked: 1 not forecast .*, 1 without a known"):
        _stocks(table(), [1, 3], 6, 24, {})
    with pytest.raises(InputError, match="station 'B' has no known capacity"):
        _stocks(table(), [1], 6, 24, {})


def test_more_bikes_than_docks_are_an_error():
    """They were typed: nothing is skipped in silence."""
    with pytest.raises(InputError, match="21 bikes in station 'A.10', which holds 20"):
        _stocks(table(), [0, 2], 6, 24, {0: 21})


@pytest.mark.parametrize(
    "text", ["", "A.10", "=3", "A.10=", "A.10=-1", "A.10=1.5", "A.10=٣", "A=9999999"]
)
def test_bikes_are_a_station_and_a_number(text):
    """Ids may have an equals sign in them."""
    assert _counted("a=b=12") == ("a=b", 12)
    with pytest.raises(InputError, match="--bikes is .*HB101=3"):
        _counted(text)


def test_bikes_and_chances_have_columns_where_bikes_are_given(capsys):
    """A station whose bikes are not given has a question mark among them."""
    found, _ = _stocks(table(), [0, 2], 6, 24, {})
    _print_stocks(table(), 6, 24, found)
    plain = capsys.readouterr().out
    assert "Stock at Mon 16 Jul 06:00 for 24 h" in plain
    assert "A.10 First St" in plain and "now" not in plain
    found, _ = _stocks(table(), [0, 2], 6, 24, {0: 4})
    _print_stocks(table(issue=replace(published().issue, simulated=True)), 6, 24, found)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == "simulated data"
    assert lines[2].split()[-4:] == ["now", "P(empty)", "P(full)", "avoids"]
    assert lines[4].split()[-4] == "4" and lines[5].split()[-1] == "?"


def test_a_name_is_printed_as_it_is(capsys):
    """Square brackets are no markup."""
    found, _ = _stocks(table(), [0], 6, 24, {})
    named = {replace(station, name="Pier [/closed]"): of for station, of in found.items()}
    _print_stocks(table(), 6, 24, named)
    assert "A.10 Pier [/closed]" in capsys.readouterr().out


def test_the_document_has_nulls_where_bikes_are_not_given():
    """All stations have the same fields."""
    found, skipped = _stocks(table(), [0, 1, 2], 6, 24, {0: 4})
    document = _document(table(), 6, 24, found, skipped)
    first, second = document["stations"]
    assert first["bikes"] == 4 and first["avoided"] > 0
    assert second.keys() == first.keys() and second["avoided"] is None
    assert document["at"] == "2018-07-16T06:00:00-04:00" and document["model"] == "naive"
    assert document["skipped"] == {"without a known capacity": 1}
