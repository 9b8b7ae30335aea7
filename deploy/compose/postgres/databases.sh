#!/bin/sh
# Two databases, each with an owner that is no superuser. Run once, on an empty volume.
# psql reads the passwords from the secrets itself, so that no argv and no log holds one.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres --dbname postgres <<'SQL'
\set bikecast `sed -n 's|.*://bikecast:\([^@]*\)@.*|\1|p' /run/secrets/database_url`
\set mlflow `sed -n 's|^password=||p' /run/secrets/mlflow_service`
CREATE ROLE bikecast LOGIN PASSWORD :'bikecast';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE bikecast OWNER bikecast;
CREATE DATABASE mlflow OWNER mlflow;
REVOKE CONNECT ON DATABASE bikecast, mlflow FROM PUBLIC;
SQL
