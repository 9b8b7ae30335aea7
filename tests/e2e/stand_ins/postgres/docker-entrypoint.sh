#!/bin/bash
# What the official image's entrypoint does, for a container that does not run as root.
set -Eeuo pipefail
if [[ ${1:-} == postgres && ! -s $PGDATA/PG_VERSION ]]; then
    [[ -r ${POSTGRES_PASSWORD_FILE:-} ]] || { echo "no password: set POSTGRES_PASSWORD_FILE"; exit 1; }
    user=${POSTGRES_USER:-postgres}
    mkdir -p "$PGDATA" && chmod 0700 "$PGDATA"
    # shellcheck disable=SC2086
    initdb --username="$user" --pwfile=<(cat "$POSTGRES_PASSWORD_FILE"; echo) ${POSTGRES_INITDB_ARGS:-}
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
    export POSTGRES_USER=$user POSTGRES_DB=${POSTGRES_DB:-$user}
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
            *.sh) if [[ -x $script ]]; then "$script"; else . "$script"; fi ;;
            *.sql) psql -v ON_ERROR_STOP=1 --no-psqlrc -U "$user" -d "$POSTGRES_DB" -f "$script" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@"
