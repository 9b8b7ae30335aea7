"""Forecast tables: stored whole, found by the newest, forgotten but for the last three."""

import polars as pl
from psycopg2.extensions import connection as Connection

from bikecast.records import FORECAST_COLUMNS, Issue
from bikecast.store.connection import copy_in, copy_out, fetch
from bikecast.store.identity import known_keys

KEPT_ISSUES = 3
FRAME = {"station_id": pl.String, "hour": pl.Datetime("us"), "target": pl.String} | dict.fromkeys(
    FORECAST_COLUMNS[3:], pl.Float32
)


def save(connection: Connection, issue: Issue, frame: pl.DataFrame) -> int:
    """Store a table, and forget all but the newest three of its system; its id."""
    made = fetch(
        connection,
        """
        INSERT INTO forecast_issue (system_id, issued_at, as_of, model, model_version, simulated)
        VALUES (%s, %s, %s, %s, %s, %s) RETURNING issue_id
        """,
        (
            issue.system_id,
            issue.issued_at,
            issue.as_of,
            issue.model,
            issue.model_version,
            issue.simulated,
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
    fetch(
        connection,
        """
        DELETE FROM forecast_issue WHERE system_id = %s AND issue_id NOT IN (
            SELECT issue_id FROM forecast_issue WHERE system_id = %s
            ORDER BY issue_id DESC LIMIT %s)
        """,
        (issue.system_id, issue.system_id, KEPT_ISSUES),
    )
    return issue_id


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
    return copy_out(
        connection,
        """
        SELECT s.station_id, hour, target, mean, q05, q10, q25, q50, q75, q90, q95
        FROM forecast JOIN station s USING (station_key) WHERE issue_id = %s
        """,
        (issue_id,),
        FRAME,
    )
