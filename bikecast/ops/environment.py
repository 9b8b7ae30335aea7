"""Where a release goes: ``deploy/environments/NAME.toml``, read, resolved and checked."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
)

from bikecast.errors import InputError, UnknownName

COMMAND_TIMEOUT = 30  # seconds that a {command = …} may take
UNKNOWN_KEY = "there is no such key"
SOURCES = ("env", "file", "command")
ORIGIN = r"^(\*|[a-z][a-z0-9+.-]*://[a-z0-9.:\[\]-]+)$"
"""As browsers write them, or all."""

Lookup = Callable[[str], str]


class Section(BaseModel):
    """A table of the file; a key that it does not have is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Address(Section):
    """A host as SSH reaches it."""

    user: str
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 22

    def __str__(self) -> str:
        """As it is written in the file."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"


def parse_address(text: object) -> object:
    """The parts of ``user@host:port``; IPv6 stands in brackets, the port may be left out.

    >>> parse_address("deploy@[::1]:2222")
    {'user': 'deploy', 'host': '::1', 'port': '2222'}
    """
    if not isinstance(text, str):
        return text
    found = re.fullmatch(r"([\w.-]+)@(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+))(?::(\d{1,5}))?", text)
    if found is None:
        raise ValueError(f"{text!r} is no address; write user@host or user@host:port")
    user, ipv6, host, port = found.groups()
    return {"user": user, "host": ipv6 or host, **({"port": port} if port else {})}


class Registry(Section):
    """Where images are pushed to and pulled from."""

    image: Annotated[str, Field(pattern=r"^[\w.-]+(:\d+)?(/[a-z0-9._-]+)+$")]
    username: str = ""
    password: SecretStr = SecretStr("")


class Hosts(Section):
    """The hosts, and how they are reached; times in seconds."""

    addresses: Annotated[
        tuple[Annotated[Address, BeforeValidator(parse_address)], ...], Field(min_length=1)
    ]
    key: SecretStr
    known_hosts: str
    directory: Annotated[str, Field(pattern=r"^/[\w./-]*[\w-]$")] = "/opt/bikecast"
    concurrency: PositiveInt = 10
    connect_timeout: PositiveFloat = 15
    command_timeout: PositiveFloat = 300

    @field_validator("addresses")
    @classmethod
    def _each_host_once(cls, value: tuple[Address, ...]) -> tuple[Address, ...]:
        seen = {(a.host, a.port) for a in value}
        if len(seen) < len(value):
            raise ValueError("the same host stands there twice")
        return value


class Tls(Section):
    """What the proxy shows to its clients, in PEM form."""

    certificate: str
    key: SecretStr


def _plain(text: object) -> object:
    """Refuse what nginx would: a zone, as in ``fe80::1%eth0``; and numbers."""
    if not isinstance(text, str) or "%" in text:
        raise ValueError("write an address, or a network as in 10.0.0.0/8")
    return text


Network = Annotated[IPvAnyNetwork, BeforeValidator(_plain)]


class Proxy(Section):
    """nginx in front of the two colours, and behind which balancers it stands."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    image: str = "nginx:1.28"
    tls: Tls | None = None
    balancers: tuple[Network, ...] = ()


class Release(Section):
    """How traffic moves to a new release, and when it goes back; times in seconds."""

    strategy: Literal["blue-green", "canary"] = "blue-green"
    steps: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(min_length=1)] = (
        *(5, 25, 50, 100),
    )
    bake: Annotated[float, Field(ge=0)] = 30
    max_error_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_latency_ratio: Annotated[float, Field(gt=0)] = 2.0
    health_timeout: PositiveFloat = 60
    previous: Literal["warm", "stopped"] = "warm"
    keep: Annotated[int, Field(ge=2)] = 5
    smoke_station: str = ""
    smoke_key: SecretStr = SecretStr("")

    @field_validator("steps")
    @classmethod
    def _rising_to_all(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)) or value[-1] != 100:
            raise ValueError("the steps must rise and end at 100")
        return value


class Service(Section):
    """What the containers are told; secrets reach them as mounted files."""

    system: Annotated[str, Field(min_length=1)]
    workers: PositiveInt = 2
    database_url: SecretStr
    mlflow_tracking_uri: SecretStr = SecretStr("")
    model_name: str = "bike-demand-forecaster"
    stale_after: PositiveInt = 86_400
    strict_gate: bool = False
    require_key: bool = False
    admin_token: SecretStr = SecretStr("")
    key_limit: NonNegativeInt = 0
    address_limit: NonNegativeInt = 0
    cors_origins: tuple[Annotated[str, Field(pattern=ORIGIN)], ...] = ()

    @field_validator("admin_token")
    @classmethod
    def _token(cls, token: SecretStr) -> SecretStr:
        # The service would refuse to start with it, once the database is migrated.
        if not re.fullmatch(r"([!-~]{16,})?", token.get_secret_value()):
            raise ValueError("write 16 letters and digits or more")
        return token


class Notify(Section):
    """Who is told of releases."""

    slack_webhook: SecretStr = SecretStr("")


class Airflow(Section):
    """The Airflow that trains; times in seconds.

    :param url: empty: there is none, and `inv train` only trains with --local.
    :param api: ``v2`` of Airflow 3, ``v1`` of Airflow 2.
    :param time_limit: of a whole run, waiting for others included.
    """

    url: Annotated[str, Field(pattern=r"^(https?://[^\s?#@]+)?$")] = ""
    username: str = ""
    password: SecretStr = SecretStr("")
    api: Literal["v2", "v1"] = "v2"
    dag: Annotated[str, Field(pattern=r"^[\w.-]+$")] = "model_training"
    time_limit: PositiveFloat = 6_600


class Environment(Section):
    """Everything that a release needs to know of the place where it goes."""

    name: str
    protected: bool = False
    registry: Registry
    hosts: Hosts
    proxy: Proxy = Proxy()
    release: Release = Release()
    service: Service
    notify: Notify = Notify()
    airflow: Airflow = Airflow()

    def masked(self) -> dict[str, Any]:
        """The resolved values for people to read; secrets are stars."""
        return self.model_dump(mode="json") | {
            "hosts": self.hosts.model_dump(mode="json")
            | {"addresses": [str(a) for a in self.hosts.addresses]}
        }


def load_environment(folder: Path, name: str, environ: Mapping[str, str]) -> Environment:
    """The environment NAME of a folder.

    :param environ: where ``{env = …}`` is looked up.
    :raises UnknownName: where the folder has no such file.
    :raises InputError: naming the file, the line and the key at fault.
    """
    path = folder / f"{name}.toml"
    known = sorted(p.stem for p in folder.glob("*.toml"))
    if name not in known:
        raise UnknownName(
            f"no environment {name!r} in {folder} (known: {', '.join(known) or 'none'})",
            hint="copy example.toml to that name and fill it in",
        )
    sources: dict[str, Lookup] = {
        "env": lambda variable: _of_environ(variable, environ),
        "file": _of_file,
        "command": _of_command,
    }
    return parse_environment(_text(path), str(path), name, sources)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", hint="let it be a file that you can read"
        ) from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: this is no UTF-8", hint="mend that line") from error


def parse_environment(
    text: str, where: str, name: str, sources: Mapping[str, Lookup]
) -> Environment:
    """The environment that a TOML text describes.

    :param where: the file's name, for errors.
    :param sources: how a value ``{env = …}``, ``{file = …}`` or ``{command = …}`` is found.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where} is no TOML: {error}", hint="mend that line") from error
    if "name" in raw:  # a field of the model, but none of the file
        raise _at_fault(text, where, ("name",), UNKNOWN_KEY)
    resolved = {key: _resolved(value, (key,), text, where, sources) for key, value in raw.items()}
    try:
        return Environment(**{**resolved, "name": name})
    except ValidationError as error:
        # A key that is not known is often one that is missing, misspelt: it goes first.
        found = error.errors(include_url=False, include_input=False)
        first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        place = tuple(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = UNKNOWN_KEY
        raise _at_fault(text, where, place, message[0].lower() + message[1:]) from None


def _resolved(
    value: Any, place: tuple[str, ...], text: str, where: str, sources: Mapping[str, Lookup]
) -> Any:
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and next(iter(value)) in SOURCES:
        source, of = next(iter(value.items()))
        try:
            return sources[source](of)
        except (LookupError, OSError, ValueError, subprocess.SubprocessError) as error:
            raise _at_fault(text, where, place, f"{source} {of!r}: {error}") from error
    return {k: _resolved(v, (*place, k), text, where, sources) for k, v in value.items()}


def _at_fault(text: str, where: str, place: tuple[str, ...], message: str) -> InputError:
    line = line_of(text, place)
    return InputError(
        f"{where}, line {line}: {'.'.join(place)}: {message}",
        hint="example.toml explains every key",
    )


def line_of(text: str, place: tuple[str, ...]) -> int:
    """The line, from 1, on which a key stands; of a key that is missing, that of its table.

    >>> line_of("[hosts]\\nkey = 1\\n\\n[proxy]\\nport = 'x'", ("proxy", "port"))
    5
    """
    table: tuple[str, ...] = ()
    best, found = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([\w.-]+)\]", line):
            here = table = tuple(header[1].split("."))
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            here = (*table, *key[1].split("."))
        else:
            continue
        if here == place[: len(here)] and len(here) > found:
            best, found = number, len(here)
    return best


def _of_environ(variable: str, environ: Mapping[str, str]) -> str:
    if variable not in environ:
        raise LookupError("is not set")
    return environ[variable]


def _of_file(path: str) -> str:
    try:
        return Path(path).expanduser().read_text()
    except OSError as error:
        raise LookupError(error.strerror) from error


def _of_command(command: str) -> str:
    # The operator's own words from the operator's own file; no shell reads them.
    done = subprocess.run(  # nosec B603
        shlex.split(command), capture_output=True, text=True, timeout=COMMAND_TIMEOUT
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise LookupError(f"exit code {done.returncode} {said[-1] if said else ''}".rstrip())
    return done.stdout.rstrip("\n")
