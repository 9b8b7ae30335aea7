"""API keys, and what admins did."""

from alembic import op

revision = "0003"
down_revision = "0002"

# A release of schema 2 does not look at them: it asks for no key.
TABLES = """
-- Of a key only its public id and the hash of the whole are kept.
CREATE TABLE api_key (
    key_id text PRIMARY KEY CHECK (key_id <> ''),
    name text NOT NULL CHECK (name <> ''),
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz CHECK (revoked_at >= created_at)
);
-- A name may be given again once its key is revoked.
CREATE UNIQUE INDEX api_key_name ON api_key (name) WHERE revoked_at IS NULL;

CREATE TABLE admin_act (
    act_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    who text NOT NULL CHECK (who <> ''),
    act text NOT NULL CHECK (act <> ''),
    subject text NOT NULL DEFAULT ''
);
CREATE FUNCTION admin_act_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what admins did is written down for good';
END $$;
CREATE TRIGGER admin_act_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON admin_act
    FOR EACH STATEMENT EXECUTE FUNCTION admin_act_stays();

UPDATE schema_info SET schema = 3;
"""


def upgrade() -> None:
    """Expand only: the release before this one reads and writes the same database."""
    op.execute(TABLES)
