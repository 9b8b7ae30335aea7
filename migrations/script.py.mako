"""${message}"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Expand only: the release before this one reads and writes the same database."""
    ${upgrades if upgrades else "pass"}
