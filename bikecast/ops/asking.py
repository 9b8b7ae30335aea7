"""Runs `bikecast` commands: in the release on a host, or on this machine."""

import os
import subprocess
import sys
from collections.abc import Callable
from tempfile import TemporaryFile

from bikecast.errors import CommandFailed, Unavailable
from bikecast.ops.commands import bikecast_in, secrets
from bikecast.ops.commands.containers import SERVICE_ALONE
from bikecast.ops.environment import Environment
from bikecast.ops.host import Host
from bikecast.ops.site import Site, look_if_up

Bikecast = Callable[[tuple[str, ...]], str]
"""Runs a command; what it printed on stdout, or CommandFailed with its exit code."""


def there(site: Site) -> Bikecast:
    """Runs commands beside the refresher of the release, which has what talks to MLflow."""

    def run(words: tuple[str, ...]) -> str:
        host, container = refresher(site)
        return host.run(bikecast_in(container, site.who, words))

    return run


def refresher(site: Site) -> tuple[Host, str]:
    """The host with the refresher of what is live, and its container.

    :raises Unavailable: where none runs.
    """
    states, gone = look_if_up(site)
    for host, state in states.items():
        found = state.refresher(state.live) if state.live else None
        if found and found.running:
            return host, found.name
    why = next((f": {error.what}" for error in gone.values()), "")
    raise Unavailable(
        f"no refresher runs in {site.env.name}, where models are promoted{why}",
        hint="see `inv status`; the next `inv deploy` starts one",
    )


def here(env: Environment) -> Bikecast:
    """Runs commands on this machine, on the database and the MLflow of an environment.

    What they say on stderr is passed on as it comes.
    """
    environ = surroundings(env)

    def run(words: tuple[str, ...]) -> str:
        said = ""
        with TemporaryFile("w+") as out:
            # Our own interpreter and package, and words built in these modules.
            with subprocess.Popen(  # nosec B603
                [sys.executable, "-m", "bikecast", *words],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                try:
                    for line in process.stderr or ():
                        said = line if line.strip() else said
                        print(line, end="", file=sys.stderr, flush=True)
                except BaseException:
                    # Whoever stops us does not mean to wait for an hour of training.
                    process.terminate()
                    raise
            out.seek(0)
            printed = out.read()
        if process.returncode:
            what = f"bikecast {' '.join(words)}"
            raise CommandFailed("here", what, process.returncode, said, printed)
        return printed

    return run


def surroundings(env: Environment) -> dict[str, str]:
    """Our environment variables, with those that say which database, MLflow, system and model.

    And how strict the gate is, or what passes here would be another matter than there.
    """
    plain = {"system": env.service.system, "model_name": env.service.model_name}
    plain["strict_gate"] = str(env.service.strict_gate).lower()
    given = {k: v for k, v in secrets(env).items() if k not in SERVICE_ALONE} | plain
    settings = {f"BIKECAST_{name.upper()}": value for name, value in given.items()}
    unset = {"BIKECAST_MLFLOW_TRACKING_URI", *settings}
    ours = {k: v for k, v in os.environ.items() if k.removesuffix("_FILE") not in unset}
    return ours | settings
