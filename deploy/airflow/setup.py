"""Makes Airflow's database and secrets on one machine, once; safe to run as often as one likes.

Run by Airflow's Python in the service `airflow-setup` of deploy/compose.yaml, then
`airflow db migrate` in its place. No secret stands in an argv, an environment or a log.
"""

import json
import os
import secrets
import sys
from pathlib import Path

import psycopg2
from psycopg2 import sql

FOLDER = Path(os.environ.get("AIRFLOW_SECRETS", "/var/lib/airflow/secrets"))
USERNAME = "bikecast"


def kept(name: str) -> str:
    """A secret that is made the first time, and stays."""
    path = FOLDER / name
    if not path.exists():
        partial = FOLDER / f".{name}"
        partial.write_text(secrets.token_urlsafe(32))
        partial.replace(path)
    return path.read_text()


def make_database(password: str, host: str, superuser: str) -> None:
    """Airflow's own database on the server, and its owner with this password."""
    connection = psycopg2.connect(host=host, user="postgres", password=superuser, dbname="postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = 'airflow'")
        if cursor.fetchone() is None:
            cursor.execute("CREATE ROLE airflow LOGIN")
        cursor.execute(sql.SQL("ALTER ROLE airflow PASSWORD {}").format(sql.Literal(password)))
        cursor.execute("SELECT FROM pg_database WHERE datname = 'airflow'")
        if cursor.fetchone() is None:
            cursor.execute("CREATE DATABASE airflow OWNER airflow")
        cursor.execute("REVOKE CONNECT ON DATABASE airflow FROM PUBLIC")
    connection.close()


def main() -> None:
    """Make what is not there."""
    host = os.environ.get("AIRFLOW_POSTGRES", "postgres")
    port = os.environ.get("PGPORT", "5432")
    superuser = Path(os.environ["POSTGRES_PASSWORD_FILE"]).read_text()
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = kept("database_password")
    make_database(password, host, superuser)
    url = f"postgresql+psycopg2://airflow:{password}@{host}:{port}/airflow"
    (FOLDER / "database_url").write_text(url)
    kept("jwt")
    (FOLDER / "passwords.json").write_text(json.dumps({USERNAME: kept("password")}))


if __name__ == "__main__":
    os.umask(0o077)
    main()
    if len(sys.argv) > 1:
        # Fixed words of the compose file.
        os.execv(sys.argv[1], sys.argv[1:])  # nosec B606
