"""Systems, stations, trips, hours, weather and forecasts."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE schema_info (
    one bool PRIMARY KEY DEFAULT true CHECK (one),
    schema int NOT NULL,
    min_reader int NOT NULL CHECK (min_reader <= schema)
);
INSERT INTO schema_info (schema, min_reader) VALUES (1, 1);

CREATE TABLE system (
    system_id text PRIMARY KEY CHECK (system_id <> ''),
    name text NOT NULL DEFAULT '',
    timezone text NOT NULL CHECK (timezone <> ''),
    holidays text NOT NULL DEFAULT '',
    simulated bool NOT NULL DEFAULT false
);

-- The key is ours and stays; the id is the operator's and changes.
CREATE TABLE station (
    station_key int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    system_id text NOT NULL REFERENCES system,
    station_id text NOT NULL CHECK (station_id <> ''),
    -- As trips tell it.
    name text NOT NULL DEFAULT '',
    lat float8 CHECK (lat BETWEEN -90 AND 90),
    lon float8 CHECK (lon BETWEEN -180 AND 180),
    -- As a stations file gave it; goes before what trips tell.
    given_name text CHECK (given_name <> ''),
    given_lat float8 CHECK (given_lat BETWEEN -90 AND 90),
    given_lon float8 CHECK (given_lon BETWEEN -180 AND 180),
    capacity int CHECK (capacity >= 0),
    UNIQUE (system_id, station_id) DEFERRABLE INITIALLY DEFERRED
);

-- One row per id and name that trips ever used; several may be one station.
CREATE TABLE station_alias (
    alias_key int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    system_id text NOT NULL REFERENCES system,
    raw_id text NOT NULL,
    name_key text NOT NULL,
    name text NOT NULL,
    lat float8,
    lon float8,
    trips bigint NOT NULL DEFAULT 0,
    first_seen timestamp NOT NULL,
    last_seen timestamp NOT NULL,
    station_key int REFERENCES station,
    UNIQUE (system_id, raw_id, name_key)
);
CREATE INDEX station_alias_station ON station_alias (station_key);

CREATE TABLE import_file (
    system_id text NOT NULL REFERENCES system,
    kind text NOT NULL,
    sha256 text NOT NULL,
    name text NOT NULL,
    rows_read bigint NOT NULL,
    rows_used bigint NOT NULL,
    skipped jsonb NOT NULL DEFAULT '{}',
    notes jsonb NOT NULL DEFAULT '{}',
    imported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (system_id, kind, sha256)
);

-- Trips arrive in order of time: a key that begins with it is written at its end, where a key of
-- ride ids alone is written everywhere (4 million rides: 55 s against 76 s, and it grows). The ends
-- are in nearly the same order, so a BRIN index of a few pages finds their hours again.
CREATE TABLE trip (
    system_id text NOT NULL REFERENCES system,
    ride_key text NOT NULL,
    started_at timestamp NOT NULL,
    ended_at timestamp NOT NULL CHECK (ended_at > started_at - interval '1 hour'),
    start_alias int REFERENCES station_alias,
    end_alias int REFERENCES station_alias,
    CHECK (start_alias IS NOT NULL OR end_alias IS NOT NULL),
    PRIMARY KEY (system_id, started_at, ride_key)
);
CREATE INDEX trip_ended ON trip USING brin (ended_at) WITH (pages_per_range = 16);

-- What a panel gave stays as it is; what is counted from trips is counted anew as they arrive.
CREATE TABLE station_hour (
    station_key int NOT NULL REFERENCES station,
    hour timestamp NOT NULL CHECK (date_trunc('hour', hour) = hour),
    pickups int CHECK (pickups >= 0),
    returns int CHECK (returns >= 0),
    source text NOT NULL CHECK (source IN ('trips', 'panel')),
    PRIMARY KEY (station_key, hour)
);

CREATE TABLE coverage (
    system_id text NOT NULL REFERENCES system,
    first_day date NOT NULL,
    last_day date NOT NULL CHECK (last_day >= first_day),
    source text NOT NULL,
    PRIMARY KEY (system_id, first_day, last_day, source)
);

-- issued_at is -infinity for an observation.
CREATE TABLE weather (
    system_id text NOT NULL REFERENCES system,
    hour timestamptz NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT '-infinity',
    temperature real,
    precipitation real CHECK (precipitation >= 0),
    wind_speed real CHECK (wind_speed >= 0),
    cloud_cover real CHECK (cloud_cover BETWEEN 0 AND 100),
    humidity real CHECK (humidity BETWEEN 0 AND 100),
    PRIMARY KEY (system_id, hour, issued_at)
);

CREATE TABLE forecast_issue (
    issue_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    system_id text NOT NULL REFERENCES system,
    issued_at timestamptz NOT NULL,
    as_of timestamptz NOT NULL,
    model text NOT NULL,
    model_version text NOT NULL,
    simulated bool NOT NULL
);
CREATE INDEX forecast_issue_newest ON forecast_issue (system_id, issue_id DESC);

CREATE TABLE forecast (
    issue_id bigint NOT NULL REFERENCES forecast_issue ON DELETE CASCADE,
    station_key int NOT NULL REFERENCES station,
    hour timestamp NOT NULL,
    target text NOT NULL CHECK (target IN ('pickups', 'returns')),
    mean real NOT NULL CHECK (mean >= 0),
    q05 real NOT NULL,
    q10 real NOT NULL,
    q25 real NOT NULL,
    q50 real NOT NULL,
    q75 real NOT NULL,
    q90 real NOT NULL,
    q95 real NOT NULL,
    PRIMARY KEY (issue_id, station_key, hour, target)
);
-- For a station that turns out to be another one.
CREATE INDEX forecast_station ON forecast (station_key);
"""


def upgrade() -> None:
    """Make the tables."""
    op.execute(TABLES)
