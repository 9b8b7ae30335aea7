"""The model in production, taken back by the release that riders have."""

import json
from dataclasses import replace

from bikecast.errors import BikecastError, CommandFailed, Refused, UnknownName
from bikecast.ops import commands
from bikecast.ops.commands import refresher_name
from bikecast.ops.site import Site, Target
from bikecast.ops.state import parse_state

NOTHING = '{"version": ""}'


def rollback_model(site: Site, target: Target) -> str:
    """Take the model back once the service is, by the refresher beside it, which has MLflow.

    What that release cannot ask does not come into production: it says so itself.

    :param target: the release that riders have by now.
    :returns: the version in production; empty where it was a dry run.
    :raises Refused: where there is no version to go back to.
    """
    try:
        said = _ask(site)
    except BikecastError as error:
        error.what = f"riders have {target.release}, but its model was not taken back: {error.what}"
        error.hint = (
            f'`inv exec "model rollback" --of refresher --env {site.env.name}` takes the model '
            "alone; another `inv rollback` would take the service one release further back"
        )
        if isinstance(error, CommandFailed) and error.code == Refused.exit_code:
            raise Refused(error.what, hint=error.hint) from error
        raise
    version = str(json.loads(said)["version"])
    if version:
        site.say(f"version {version} of the model is in production, and in use within a minute")
    return version


def _ask(site: Site) -> str:
    """What `bikecast model rollback` says, on the one host that has a refresher."""
    state = parse_state(site.first.run(commands.look(site.directory)))
    # A dry run has left the former release where it was.
    colour = (site.dry and state.former) or state.live
    refresher = state.refresher(colour) if colour else None
    if colour is None or not (site.dry or (refresher and refresher.running)):
        raise UnknownName(f"no refresher runs on {site.first.name}", hint="see `inv status`")
    asking = commands.bikecast_in(
        refresher_name(colour),
        f"{site.who} by inv rollback --with-model",
        ("model", "rollback", "--json"),
    )
    return site.first.run(replace(asking, pretend=NOTHING))
