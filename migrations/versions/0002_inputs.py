"""Beside forecasts: what the model saw of each station, and the model itself."""

from alembic import op

revision = "0002"
down_revision = "0001"

# A release of schema 1 leaves them empty and reads on. What is packed is compressed already.
TABLES = """
CREATE TABLE forecast_inputs (
    issue_id bigint NOT NULL REFERENCES forecast_issue ON DELETE CASCADE,
    station_key int NOT NULL REFERENCES station ON DELETE CASCADE,
    packed bytea NOT NULL,
    PRIMARY KEY (issue_id, station_key)
);
ALTER TABLE forecast_inputs ALTER packed SET STORAGE EXTERNAL;
CREATE INDEX forecast_inputs_station ON forecast_inputs (station_key);

CREATE TABLE forecast_model (
    sha256 text PRIMARY KEY,
    packed bytea NOT NULL
);
ALTER TABLE forecast_model ALTER packed SET STORAGE EXTERNAL;
ALTER TABLE forecast_issue ADD model_sha256 text REFERENCES forecast_model;

UPDATE schema_info SET schema = 2;
"""


def upgrade() -> None:
    """Expand only: the release before this one reads and writes the same database."""
    op.execute(TABLES)
