"""Which version of a model was in production, since when, by whom and why."""

from alembic import op

revision = "0004"
down_revision = "0003"

# A release of schema 3 does not look at it: what it moves is found out afterwards.
TABLES = """
CREATE TABLE promotion (
    promotion_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    model_name text NOT NULL CHECK (model_name <> ''),
    system_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('promote', 'rollback', 'done', 'undone', 'noticed')),
    from_version text NOT NULL,
    to_version text NOT NULL,
    who text NOT NULL CHECK (who <> ''),
    why text NOT NULL DEFAULT '',
    CHECK (from_version <> to_version)
);
CREATE FUNCTION promotion_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was in production is written down for good';
END $$;
CREATE TRIGGER promotion_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON promotion
    FOR EACH STATEMENT EXECUTE FUNCTION promotion_stays();

UPDATE schema_info SET schema = 4;
"""


def upgrade() -> None:
    """Expand only: the release before this one reads and writes the same database."""
    op.execute(TABLES)
