"""Forecast tables: stored whole, found by the newest, forgotten but for the last three."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from psycopg2.extensions import connection as Connection

from bikecast.features import NAMES
from bikecast.features.inputs import Inputs, pack, unpack
from bikecast.records import FORECAST_COLUMNS, KEPT_HORIZON, TARGETS, Issue
from bikecast.store.connection import copy_in, copy_numbers, fetch
from bikecast.store.identity import known_keys

KEPT_ISSUES = 3
AT_ONCE = 50  # stations, 1.5 MB: a service that reads a large forecast answers meanwhile
SINCE_1970 = 946_684_800_000_000  # microseconds up to 2000, from where PostgreSQL counts
SENT = {"station_key": ">i4", "hour": ">i8", "target": "i1"} | dict.fromkeys(
    FORECAST_COLUMNS[3:], ">f4"
)
FRAME: dict[str, Any] = {
    "station_id": pl.String,
    "hour": pl.Datetime("us"),
    "target": pl.String,
} | dict.fromkeys(FORECAST_COLUMNS[3:], pl.Float32)

FORGET_MODELS = """
DELETE FROM forecast_model WHERE NOT EXISTS (SELECT FROM forecast_issue WHERE model_sha256 = sha256)
"""


def save(
    connection: Connection,
    issue: Issue,
    frame: pl.DataFrame,
    inputs: Mapping[str, Inputs],
    model: bytes | None,
) -> int:
    """Store a table, and forget all but the newest three of its system; its id."""
    # Two at once, and one might forget the model that the other is about to refer to.
    fetch(connection, "SELECT pg_advisory_xact_lock(hashtext('forecast_model'))")
    made = fetch(
        connection,
        """
        INSERT INTO forecast_issue
            (system_id, issued_at, as_of, model, model_version, simulated, model_sha256)
        VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING issue_id
        """,
        (
            issue.system_id,
            issue.issued_at,
            issue.as_of,
            issue.model,
            issue.model_version,
            issue.simulated,
            _keep_model(connection, model),
        ),
    )
    issue_id = int(made[0][0])
    known = known_keys(connection, issue.system_id)
    keys = pl.DataFrame(
        {"station_id": list(known), "station_key": list(known.values())},
        schema={"station_id": pl.String, "station_key": pl.Int64},
    )
    # An import may have found in the meantime that two of its stations are one.
    rows = (
        frame.join(keys, on="station_id", maintain_order="left")
        .unique(["station_key", "hour", "target"], keep="first", maintain_order=True)
        .select(pl.lit(issue_id).alias("issue_id"), "station_key", *FORECAST_COLUMNS[1:])
    )
    copy_in(connection, "forecast", rows)
    copy_in(connection, "forecast_inputs", _packed(issue_id, inputs, known))
    fetch(
        connection,
        """
        DELETE FROM forecast_issue WHERE system_id = %s AND issue_id NOT IN (
            SELECT issue_id FROM forecast_issue WHERE system_id = %s
            ORDER BY issue_id DESC LIMIT %s)
        """,
        (issue.system_id, issue.system_id, KEPT_ISSUES),
    )
    fetch(connection, FORGET_MODELS)
    return issue_id


def _keep_model(connection: Connection, packed: bytes | None) -> str | None:
    """Store a model, once for all its tables; what they know it by."""
    if packed is None:
        return None
    sha256 = hashlib.sha256(packed).hexdigest()
    query = "INSERT INTO forecast_model VALUES (%s, %s) ON CONFLICT DO NOTHING"
    fetch(connection, query, (sha256, packed))
    return sha256


def _packed(issue_id: int, inputs: Mapping[str, Inputs], known: Mapping[str, int]) -> pl.DataFrame:
    """One row per station, its bytes as PostgreSQL writes them."""
    kept: dict[int, Inputs] = {}
    for station_id, found in inputs.items():
        if station_id in known:
            # Of two that are one the first, as of their forecasts.
            kept.setdefault(known[station_id], found)
    packed = [f"\\x{pack(found).hex()}" for found in kept.values()]
    return pl.DataFrame(
        {"station_key": list(kept), "packed": packed},
        schema={"station_key": pl.Int64, "packed": pl.String},
    ).select(pl.lit(issue_id).alias("issue_id"), "station_key", "packed")


def newest(connection: Connection, system_id: str) -> Issue | None:
    """The issue to answer from, or None before the first."""
    rows = fetch(
        connection,
        """
        SELECT system_id, issued_at, as_of, model, model_version, simulated, issue_id
        FROM forecast_issue WHERE system_id = %s ORDER BY issue_id DESC LIMIT 1
        """,
        (system_id,),
    )
    return Issue(*rows[0]) if rows else None


def rows_of(connection: Connection, issue_id: int) -> pl.DataFrame:
    """The rows of an issue, with ``FORECAST_COLUMNS``."""
    # All pieces are of one moment, whatever is imported or forgotten meanwhile.
    fetch(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    query = """
        SELECT station_key, station_id FROM station JOIN forecast_issue USING (system_id)
        WHERE issue_id = %s ORDER BY station_key
    """
    stations = fetch(connection, query, (issue_id,))
    pieces = [
        _piece(connection, issue_id, stations[i : i + AT_ONCE])
        for i in range(0, len(stations), AT_ONCE)
    ]
    return pl.concat([pl.DataFrame(schema=FRAME), *pieces], rechunk=False)


def _piece(connection: Connection, issue_id: int, stations: list[tuple[int, str]]) -> pl.DataFrame:
    """The rows of some stations, in the order of their keys."""
    query = """
        SELECT station_key, hour, target = %s, mean, q05, q10, q25, q50, q75, q90, q95
        FROM forecast WHERE issue_id = %s AND station_key BETWEEN %s AND %s
    """
    keys, ids = zip(*stations, strict=True)
    rows = copy_numbers(connection, query, (TARGETS[1], issue_id, keys[0], keys[-1]), SENT)
    return pl.DataFrame(
        {
            "station_id": pl.Series(ids)[np.searchsorted(keys, rows["station_key"])],
            "hour": pl.Series(rows["hour"] + SINCE_1970).cast(pl.Datetime("us")),
            "target": pl.Series(TARGETS)[rows["target"].astype(np.int64)],
        }
        | {name: rows[name].astype(np.float32) for name in FORECAST_COLUMNS[3:]}
    )


def inputs_of(connection: Connection, issue_id: int, station_id: str) -> Inputs | None:
    """What the model saw of a station; None where an older release issued the table."""
    rows = fetch(
        connection,
        """
        SELECT packed FROM forecast_inputs JOIN station s USING (station_key)
        WHERE issue_id = %s AND s.station_id = %s
        """,
        (issue_id, station_id),
    )
    return unpack(bytes(rows[0][0])) if rows else None


def model_of(connection: Connection, issue_id: int) -> bytes | None:
    """The model that made a table, packed; None where it was not stored, or is no more."""
    rows = fetch(
        connection,
        """
        SELECT packed FROM forecast_issue JOIN forecast_model ON sha256 = model_sha256
        WHERE issue_id = %s
        """,
        (issue_id,),
    )
    return bytes(rows[0][0]) if rows else None


def has_inputs(connection: Connection, issue_id: int) -> bool:
    """Whether inputs are stored with a table, all that this release keeps of them.

    With an empty table there is nothing to store.
    """
    query = "SELECT packed FROM forecast_inputs WHERE issue_id = %s LIMIT 1"
    if rows := fetch(connection, query, (issue_id,)):
        found = unpack(bytes(rows[0][0]))
        kept = len(found.level) >= KEPT_HORIZON and found.sky is not None
        return kept and found.names == NAMES
    query = "SELECT NOT EXISTS (SELECT FROM forecast WHERE issue_id = %s)"
    return bool(fetch(connection, query, (issue_id,))[0][0])
