"""Settings, and the only reader of the environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import platformdirs

from bikecast.errors import InputError

PREFIX = "BIKECAST_"
LOG_FORMATS = ("text", "json")


@dataclass(frozen=True)
class Settings:
    """What can be set; each field is read from ``BIKECAST_`` and its name in capitals.

    A variable may instead be given as ``…_FILE``: the path of a file that holds the value, as
    containers receive their secrets.

    :param data_dir: where the embedded PostgreSQL, downloads and model artifacts live.
    :param database_url: a PostgreSQL server's URL; empty: bikecast starts one in ``data_dir``.
    :param system: the system that a command or the service works on.
    :param model_name: name of the registered model in MLflow.
    :param mlflow_tracking_uri: an MLflow server; empty: the database ``mlflow`` beside ours.
    :param stale_after: age of the data, in seconds, from which an answer says ``stale``.
    :param trips_url: folder that holds the published trip files.
    :param weather_url: Open-Meteo's archive endpoint.
    :param commit: the git commit that this installation was built from, where known.
    :param who: who acts, for what is written down for good; empty: the user and his machine.
    :param strict_gate: a challenger has to be better than the champion beyond doubt, as where
        ``--strict`` is given.
    :param require_key: forecasts are answered to who has an API key alone.
    :param admin_token: opens what only admins may ask of the service; empty: nobody may.
    :param key_limit: requests a minute that each key has, from wherever it is used; 0: any number.
    :param address_limit: requests a minute without a key that each address has; 0: any number.
    :param trusted_proxies: addresses and networks whose word for a client's address is taken;
        ``unix`` stands for whoever may open the service's unix socket.
    :param trusted_hops: proxies between a client and the service; each adds the address it sees.
    :param cors_origins: origins whose pages may call the service from a browser; ``*``: all.
    :param max_body: bytes of a request's body.
    :param max_batch: questions in one batch.
    :param image_digest: of the image that the service runs in, where whoever starts it knows it.
    :param log_format: what the service says on stderr: ``text`` for people, or ``json``, an object
        a line, which has its requests as well.
    """

    data_dir: Path = Path(platformdirs.user_data_dir("bikecast", appauthor=False))
    database_url: str = ""
    system: str = ""
    model_name: str = "bike-demand-forecaster"
    mlflow_tracking_uri: str = ""
    bind: str = "127.0.0.1:8000"
    workers: int = 2
    stale_after: int = 86_400
    trips_url: str = "https://s3.amazonaws.com/tripdata"
    weather_url: str = "https://archive-api.open-meteo.com/v1/archive"
    commit: str = ""
    who: str = ""
    strict_gate: bool = False
    require_key: bool = False
    admin_token: str = field(default="", repr=False)
    key_limit: int = 0
    address_limit: int = 0
    trusted_proxies: tuple[str, ...] = ("unix",)
    trusted_hops: int = 1
    cors_origins: tuple[str, ...] = ()
    max_body: int = 1_000_000
    max_batch: int = 1_000
    image_digest: str = ""
    log_format: str = "text"


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the environment, defaults where it is silent.

    :raises InputError: for a value of the wrong kind, or a ``…_FILE`` that cannot be read.
    """
    given = {f.name: _value(f.name, environ) for f in fields(Settings)}
    values: dict[str, object] = {}
    for name, text in given.items():
        if text is None:
            continue
        kind = type(getattr(Settings, name, ""))
        values[name] = _convert(name, text, kind)
    return Settings(**values)  # type: ignore[arg-type]


def _value(name: str, environ: Mapping[str, str]) -> str | None:
    variable = PREFIX + name.upper()
    if path := environ.get(variable + "_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise InputError(
                f"{variable}_FILE names {path}, which cannot be read: {error.strerror}",
                hint="name a readable file",
            ) from error
    return environ.get(variable)


SWITCH = {"true": True, "1": True, "false": False, "0": False}


def _convert(name: str, text: str, kind: type) -> object:
    if kind is bool:
        if text.lower() not in SWITCH:
            raise InputError(f"{PREFIX}{name.upper()} is {text!r}", hint="write true or false")
        return SWITCH[text.lower()]
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is int:
        try:
            return int(text)
        except ValueError as error:
            raise InputError(
                f"{PREFIX}{name.upper()} is {text!r}", hint="write a whole number"
            ) from error
    if name == "log_format" and text not in LOG_FORMATS:
        raise InputError(f"{PREFIX}LOG_FORMAT is {text!r}", hint="write text or json")
    return Path(text).expanduser() if issubclass(kind, Path) else text


def seconds(text: str) -> float:
    """The seconds of ``90s``, ``10m`` or ``1h``.

    >>> seconds("10m")
    600.0

    :raises InputError: for anything else.
    """
    found = re.fullmatch(r"(\d+)([smh])", text)
    if not found or int(found[1]) == 0:
        raise InputError(f"{text!r} is not a duration", hint="write it as in 90s, 10m or 1h")
    return float(int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]])
