"""Trip files in every published form, and what is said of rows that cannot be used."""

import gzip
import io
import zipfile
from datetime import datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikecast import tabular
from bikecast.errors import FileRefused
from bikecast.trips import TripCounts, parse_trips, read_trips, trip_paths

ZONE = "America/New_York"
LATEST = datetime(2026, 11, 2, 12)
LEGACY = (
    "tripduration,starttime,stoptime,start station id,start station name,start station latitude,"
    "start station longitude,end station id,end station name,end station latitude,"
    "end station longitude,bikeid,usertype,birth year,gender"
)
MODERN = (
    "ride_id,rideable_type,started_at,ended_at,start_station_name,start_station_id,"
    "end_station_name,end_station_id,start_lat,start_lng,end_lat,end_lng,member_casual"
)
A, B = "First St & A,40.71,-74.01", "Second St,40.72,-74.02"


def modern(ride="R1", start="2021-03-01 08:00:00", end="2021-03-01 08:10:00", a="A.10", b="B.2"):
    """A row of the modern schema."""
    names = f"First St,{a}" if a else ","
    other = f"Second St,{b}" if b else ","
    return f"{ride},docked_bike,{start},{end},{names},{other},40.71,-74.01,40.72,-74.02,member"


def legacy(start="2019-01-01 08:00:00.1230", end="2019-01-01 08:10:00.4560", a="72", bike="99"):
    """A row of the legacy schema."""
    return f"610,{start},{end},{a},{A},79,{B},{bike},Subscriber,1980,1"


def parse(*lines, zone=ZONE):
    """The usable rows of a file, and what was counted."""
    counts = TripCounts()
    stream = io.BytesIO("\n".join([*lines, ""]).encode())
    frames = list(parse_trips(stream, "trips.csv", zone, LATEST, counts))
    return pl.concat(frames), counts


def test_a_modern_row():
    """Ids stay text, times are local without offset, places are numbers."""
    found, counts = parse(MODERN, modern(a="5379.10"))
    row = found.row(0, named=True)
    assert row["ride_key"] == "R1" and row["start_id"] == "5379.10"
    assert row["started_at"] == datetime(2021, 3, 1, 8) and row["start_lat"] == 40.71
    assert (counts.rows_read, dict(counts.skipped), dict(counts.notes)) == (1, {}, {})


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (LEGACY, legacy()),
        (LEGACY.title().replace("Tripduration", "Trip Duration"), legacy()),
        (LEGACY, legacy(start="1/1/2019 8:00:00", end="1/1/2019 8:10:00", a="72.0")),
        ("," + LEGACY, "0," + legacy()),
        (LEGACY, ",".join(f'"{v}"' for v in legacy().split(","))),
        ("\ufeff" + LEGACY, legacy()),
    ],
    ids=["lower", "title", "spreadsheet", "index", "quoted", "bom"],
)
def test_one_ride_is_one_key_in_every_legacy_spelling(header, row):
    """The same ride has the same key, id and hour however the file was written."""
    found, _ = parse(header, row)
    plain, _ = parse(LEGACY, legacy())
    assert found["ride_key"].to_list() == plain["ride_key"].to_list()
    assert found["start_id"][0] == "72"
    assert found["started_at"][0].replace(microsecond=0) == datetime(2019, 1, 1, 8)


def test_spreadsheet_times_without_seconds():
    """``1/1/2020 0:04`` is four minutes after midnight."""
    found, _ = parse(LEGACY, legacy(start="1/1/2020 0:04", end="1/1/2020 0:09"))
    assert found["started_at"][0] == datetime(2020, 1, 1, 0, 4)


def test_columns_may_stand_in_any_order():
    """What counts is the name of a column."""
    order = list(range(13))[::-1]
    lines = [",".join(line.split(",")[i] for i in order) for line in (MODERN, modern())]
    assert parse(*lines)[0].row(0) == parse(MODERN, modern())[0].row(0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (modern(end="2021-03-01 07:59:59"), "negative duration"),
        (modern(end="2021-03-03 08:00:00"), "longer than 24 hours"),
        (modern(start="yesterday"), "unreadable time"),
        (modern(start="2021-02-30 08:00:00"), "unreadable time"),
        (
            modern(start="2021-03-14 02:30:00", end="2021-03-14 03:10:00"),
            "time that does not exist",
        ),
        (modern(start="9999-12-31 23:50:00", end="9999-12-31 23:59:59"), "impossible time"),
        (modern(start="9999-12-31 23:50:00", end="9999-12-31 23:59:59", b=""), "impossible time"),
        (modern(start="2026-11-03 08:00:00", end="2026-11-03 08:10:00"), "impossible time"),
        (modern(end="2206-03-01 08:10:00", b=""), "impossible time"),
        (modern(start="0021-05-01 08:00:00", end="0021-05-01 08:10:00"), "impossible time"),
        (modern(start="1/1/20 0:04", end="1/1/20 0:09"), "impossible time"),
        (modern().replace("First", "Fi\0rst"), "control character"),
        (modern().replace("First", "Fi\x1frst"), "control character"),
        (modern().replace("First St", '"First St'), "unclosed quote"),
        (modern().replace("First St", '"First\tSt'), "unclosed quote"),
        (modern(a="", b=""), "no station at either end"),
        (modern(ride=""), "no ride id"),
        (modern() + ",more", "wrong number of fields"),
        ("half,a,row", "wrong number of fields"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_and_the_others_stay(row, reason):
    """One bad row takes no other with it, and its reason is said."""
    found, counts = parse(MODERN, modern("R0"), row, modern("R2"))
    assert found["ride_key"].to_list() == ["R0", "R2"]
    assert dict(counts.skipped) == {reason: 1} and counts.rows_read == 3


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('5" pipe St', '5" pipe St'),
        ('"Big" St', "Big St"),
        ('"The ""Big"" St"', 'The "Big" St'),
        ('"Big St, 5" pipe"', 'Big St, 5 pipe"'),
        ("First\rSt", "First\rSt"),
        ("  First St ", "  First St "),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_inside_a_name_spoils_nothing(written, meant, end):
    """A row that still has all of its fields is used, and so is every other."""
    rows = [modern("R0"), modern("R1").replace("First St", written), modern("R2")]
    counts = TripCounts()
    stream = io.BytesIO(end.join([MODERN, *rows, ""]).encode())
    found = pl.concat(parse_trips(stream, "x", ZONE, LATEST, counts))
    assert dict(zip(found["ride_key"], found["start_name"], strict=True)) == {
        "R0": "First St",
        "R1": meant,
        "R2": "First St",
    }
    assert not counts.skipped


def test_a_quote_that_opens_takes_only_its_own_line():
    """However far away the next quote is; a name over two lines is two rows that cannot be used."""
    opened = modern("R1").replace("First St", '"First St')
    cut = modern("R9").replace("First St", '"First\nSt"')
    lines = [modern(f"A{i}") for i in range(500)]
    found, counts = parse(MODERN, opened, *lines, opened, cut)
    assert found["ride_key"].to_list() == [f"A{i}" for i in range(500)]
    assert dict(counts.skipped) == {"unclosed quote": 4} and counts.rows_read == 504


def test_what_the_quick_reader_refuses_is_read_patiently(monkeypatch):
    """A block is never lost: each of its lines is looked at on its own."""
    monkeypatch.setattr(tabular, "_tidy", lambda lines, width, quotes: lines != "")
    bad = modern("R1").replace("First St", '"First St')
    found, counts = parse(MODERN, modern("R0"), bad, modern("R2"))
    assert sorted(found["ride_key"]) == ["R0", "R2"]
    assert dict(counts.skipped) == {"unclosed quote": 1}


@given(st.lists(st.text(alphabet='ab,"\r\n \0\x1f\ufffd', max_size=12), min_size=1, max_size=8))
def test_no_spelling_of_a_name_costs_another_row(names):
    """Whatever stands in names, the rows between stay, and every line is used or counted."""
    lines = []
    for i, name in enumerate(names):
        lines += [modern(f"G{i}"), modern(f"B{i}").replace("First St", name)]
    found, counts = parse(MODERN, *lines, modern("last"))
    good = [f"G{i}" for i in range(len(names))] + ["last"]
    assert set(good) <= set(found["ride_key"])
    assert counts.rows_read == len(found) + counts.skipped.total()


def test_the_present_is_where_times_end():
    """The last moment that can have been counts, a second later does not."""
    found, counts = parse(
        MODERN,
        modern("R1", start="2026-11-02 11:50:00", end="2026-11-02 12:00:00"),
        modern("R2", start="2026-11-02 11:50:00", end="2026-11-02 12:00:01"),
        modern("R3", start="1998-01-01 00:00:00", end="1998-01-01 00:10:00"),
    )
    assert found["ride_key"].to_list() == ["R1", "R3"]
    assert dict(counts.skipped) == {"impossible time": 1}


def test_a_name_with_a_comma_is_one_field():
    """A comma inside quotes separates nothing."""
    row = modern().replace("First St", '"First St, north"')
    found, counts = parse(MODERN, modern("R0"), row)
    assert found["start_name"].to_list() == ["First St", "First St, north"]
    assert not counts.skipped


def test_a_ride_over_the_hour_that_autumn_repeats_is_no_negative_one():
    """From 01:50 to the second 01:10 of 2021-11-07 are twenty minutes."""
    row = modern(start="2021-11-07 01:50:00", end="2021-11-07 01:10:00")
    found, counts = parse(MODERN, row)
    assert len(found) == 1 and not counts.skipped
    assert parse(MODERN, row.replace("11-07", "11-08"))[1].skipped["negative duration"] == 1


def test_a_ride_without_an_end_counts_where_it_began():
    """A bike that was never docked was picked up all the same, however long it was gone."""
    found, counts = parse(MODERN, modern(b="", end="2021-03-09 08:00:00"))
    assert found["end_id"].to_list() == [None] and dict(counts.notes) == {"no end station": 1}


def test_places_off_the_earth_are_unknown():
    """0, 0 and latitude 400 are no places."""
    found, _ = parse(MODERN, modern().replace("40.71,-74.01", "0,0").replace("40.72", "400"))
    row = found.row(0, named=True)
    assert (row["start_lat"], row["start_lon"], row["end_lat"]) == (None, None, None)


@given(st.binary(max_size=300))
def test_noise_is_refused_or_counted(noise):
    """Whatever bytes follow a header, the good row before them is kept."""
    counts = TripCounts()
    stream = io.BytesIO(f"{MODERN}\n{modern()}\n".encode() + noise)
    found = pl.concat(list(parse_trips(stream, "x", ZONE, LATEST, counts)))
    assert found["ride_key"][0] == "R1"
    assert counts.rows_read == len(found) + counts.skipped.total()


@given(st.binary(min_size=1, max_size=300))
def test_noise_alone_is_refused(noise):
    """Bytes without a header are no trip file, and nothing else goes wrong with them."""
    with pytest.raises(FileRefused):
        list(parse_trips(io.BytesIO(noise), "x", ZONE, LATEST, TripCounts()))


def write(path, data):
    """A file with these bytes."""
    path.write_bytes(data)
    return path


def text():
    """A small trip file."""
    return f"{MODERN}\n{modern()}\n{modern('R2')}\n".encode()


def zipped(**members):
    """A zip of these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def encrypted(data):
    """The zip as if its members needed a password."""
    marked = bytearray(data)
    marked[6] |= 1  # the flags of the only member, and again in the directory at the end
    marked[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(marked)


@pytest.mark.parametrize(
    "data",
    [
        text(),
        b"\r\n\n" + text(),
        gzip.compress(text()),
        zipped(**{"JC.csv": text(), "__MACOSX/._JC.csv": b"\0\0", ".hidden.csv": b"x"}),
        zipped(**{"year/inner.zip": zipped(**{"a.csv": text()})}),
        zipped(**{"1.csv": f"{MODERN}\n{modern()}\n", "2.csv": f"{MODERN}\n{modern('R2')}\n"}),
    ],
    ids=["csv", "blank", "gz", "zip", "nested", "parts"],
)
def test_every_wrapping_holds_the_same_trips(tmp_path, data):
    """A file is told by its bytes, not by its name."""
    path = write(tmp_path / "trips.bin", data)
    found = pl.concat(list(read_trips(path, ZONE, LATEST, TripCounts())))
    assert found["ride_key"].to_list() == ["R1", "R2"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (f"{MODERN}\n".encode(), "no row"),
        (gzip.compress(text() * 50)[:-20], "cut off"),
        (zipped(**{"a.csv": text()})[:-30], "cut off"),
        (zipped(**{"readme.txt": b"x"}), "holds no csv"),
        (zipped(), "a zip with nothing in it"),
        (encrypted(zipped(**{"a.csv": text()})), "a.csv is encrypted"),
        (b"\n\r\n  \n<!DOCTYPE html>\n<html></html>\n", "web page"),
        (b"\x7fELF\0\0\0\0" + bytes(200), "binary"),
        (b"<!DOCTYPE html><html>\n<body>404</body></html>\n", "web page"),
        (text().replace(b"ended_at", b"finished"), "lacks the column(s) ended_at"),
        (b"a,b,c\n1,2,3\n", "no trip file"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_is_no_trip_file_is_refused_whole(tmp_path, data, says):
    """The error names the file and says what is wrong with it."""
    path = write(tmp_path / "trips.csv", data)
    with pytest.raises(FileRefused, match="trips.csv") as refused:
        list(read_trips(path, ZONE, LATEST, TripCounts()))
    assert says in str(refused.value)


def test_a_folder_gives_its_trip_files_in_order(tmp_path):
    """Hidden files, folders of macOS and other files are passed over."""
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "below").mkdir()
    names = ("b.csv", "below/a.csv.gz", "c.zip", ".x.csv", "__MACOSX/d.csv", "notes.txt")
    for name in names:
        write(tmp_path / name, b"x")
    found = [str(p.relative_to(tmp_path)) for p in trip_paths(tmp_path)]
    assert found == ["b.csv", "below/a.csv.gz", "c.zip"]


def test_no_such_file_and_an_empty_folder_are_refused(tmp_path):
    """Both are named."""
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(FileRefused, match=str(path)):
            trip_paths(path)
    with pytest.raises(FileRefused, match="none.csv"):
        list(read_trips(tmp_path / "none.csv", ZONE, LATEST, TripCounts()))


@pytest.mark.parametrize(
    ("name", "rows", "without_end"),
    [("legacy/JC-201901", 19_676, 0), ("modern/JC-202102", 4_881, 67)],
)
def test_real_months_have_the_rows_they_should(shared_data, name, rows, without_end):
    """Real files of both schemas are read to the last row."""
    folder, month = name.split("/")
    path = next((shared_data / f"trips_{folder}").glob(f"{month}*.gz"))
    counts = TripCounts()
    used = sum(len(b) for b in read_trips(path, ZONE, LATEST, counts))
    assert counts.rows_read == rows == used + counts.skipped.total()
    assert counts.notes["no end station"] == without_end
