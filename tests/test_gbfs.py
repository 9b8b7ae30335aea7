"""Files of station status, counted by the hour, and what is said of rows that cannot be read."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from bikecast.errors import FileRefused
from bikecast.gbfs import read_status

ZONE = "America/New_York"
EVENING = datetime(2018, 7, 16, 21)  # UTC; five in the afternoon there
COUNTED = [
    {"station_id": "5379.10", "hour": datetime(2018, 7, 16, 17), "snapshots": 3}
    | {"empty": 2, "full": 1}
]


def test_a_csv_of_snapshots_is_counted_by_the_hour_there(tmp_path):
    """Times are UTC, however they are written; ids stay text; what cannot be read is counted."""
    path = tmp_path / "status.csv"
    seconds = int(EVENING.replace(tzinfo=UTC).timestamp())
    path.write_text(
        "station_id,time,bikes,docks\n5379.10,2018-07-16T21:02:00Z,0,20\n"
        f"5379.10,2018-07-16 21:20,0,20\n5379.10,{seconds},20,0\n"
        "5379.10,yesterday,3,4\n5379.10,2018-07-16 21:40,,4\n"
    )
    skipped = Counter()
    assert read_status(path, ZONE, skipped).to_dicts() == COUNTED
    assert skipped == {"snapshots that cannot be read": 2}


@pytest.mark.parametrize("time", ["seconds", "naive", "zoned"])
def test_a_kept_feed_is_read_by_its_own_names(tmp_path, time):
    """Parquet with GBFS's columns; without docks nothing is known to be full."""
    times = pl.Series([EVENING + timedelta(minutes=18 * i) for i in range(3)])
    kinds = {
        "seconds": times.dt.epoch("s"),
        "naive": times,
        "zoned": times.dt.replace_time_zone("UTC").dt.convert_time_zone(ZONE),
    }
    path = tmp_path / "status.parquet"
    frame = pl.DataFrame({"capture_ts": kinds[time], "num_bikes_available": [0, 0, 20]})
    frame = frame.with_columns(station_id=pl.lit("5379.10"))
    frame.write_parquet(path)
    assert read_status(path, ZONE, Counter()).to_dicts() == [COUNTED[0] | {"full": 0}]
    frame.with_columns(num_docks_available=pl.Series([20, 20, 0])).write_parquet(path)
    assert read_status(path, ZONE, Counter()).to_dicts() == COUNTED


@pytest.mark.parametrize(
    ("times", "read"),
    [
        (["2018-07-16T21:02:00+00:00", "2018-07-16T17:20:00-04:00", "2018-07-16 21:40"], 3),
        (["1531774920.0", "1531775000.4", "1531776000"], 3),
        ([1531774920.0, float("nan"), float("inf")], 1),
        ([1531774920000, 1531774921000, 1531774922000], 0),
        ([True, False, None], 0),
        ([None, None, None], 0),
    ],
    ids=["offsets", "texts of seconds", "floats", "milliseconds", "booleans", "nothing"],
)
def test_times_are_read_or_counted(tmp_path, times, read):
    """Whatever a column holds: nothing crashes, nothing is lost without a word."""
    path = tmp_path / "status.parquet"
    pl.DataFrame({"station_id": "a", "time": times, "bikes": [0, 1, 2]}).write_parquet(path)
    skipped = Counter()
    assert read_status(path, ZONE, skipped)["snapshots"].sum() == read
    assert skipped["snapshots that cannot be read"] == 3 - read


def test_a_snapshot_counts_once_and_tells_a_number(tmp_path):
    """One kept twice says no more than once; NaN bikes say nothing."""
    path = tmp_path / "status.parquet"
    minutes = [timedelta(minutes=m) for m in (1, 1, 2)]
    snapshots = {"time": [EVENING + m for m in minutes], "bikes": [0.0, 0.0, float("nan")]}
    pl.DataFrame({"station_id": ["a"] * 3, **snapshots}).write_parquet(path)
    skipped = Counter()
    assert read_status(path, ZONE, skipped)["snapshots"].to_list() == [1]
    assert skipped == {"snapshots that cannot be read": 1}


def test_what_is_no_status_is_refused(tmp_path):
    """The columns that are missing are named, and those that were found."""
    path = tmp_path / "stations.csv"
    path.write_text("station_id,name\na,Park\n")
    with pytest.raises(FileRefused, match="lacks the column.*time or capture_ts, bikes or"):
        read_status(path, ZONE, Counter())
