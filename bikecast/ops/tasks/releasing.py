"""``inv deploy``, ``rollback``, the canary's verbs and ``unlock``: what changes what riders get."""

from json import dumps

from invoke import Context, task

from bikecast.config import seconds
from bikecast.errors import BikecastError, InputError
from bikecast.ops import commands, proxy
from bikecast.ops.environment import Release
from bikecast.ops.release import How, deploy
from bikecast.ops.rollback import decide, rollback
from bikecast.ops.host import together
from bikecast.ops.models import rollback_model
from bikecast.ops.site import Site, Target, look_if_up
from bikecast.ops.tasks.common import confirm, helped, told
from bikecast.ops.tasks.notices import reported
from bikecast.ops.tasks.work import site_of, target_of

RELEASE = "A tag or sha256:…; by default the image of the commit that is checked out."


def how_of(release: Release, strategy: str, steps: str, bake: str) -> How:
    """The steps and the time to watch, from the words given and the environment behind them.

    :raises InputError: for words that are none of those.
    """
    chosen = strategy or release.strategy
    if chosen not in ("blue-green", "canary"):
        raise InputError(f"--strategy is {chosen!r}", hint="write blue-green or canary")
    if steps and chosen != "canary":
        raise InputError("--steps are for a canary", hint="add --strategy canary")
    percents = release.steps if chosen == "canary" else (100,)
    if steps:
        parts = [part.strip() for part in steps.split(",")]
        if not all(part.isdecimal() and 1 <= int(part) <= 100 for part in parts):
            raise InputError(f"--steps is {steps!r}", hint="write percentages, as in 5,25,50,100")
        percents = tuple(int(part) for part in parts)
        if list(percents) != sorted(set(percents)) or percents[-1] != 100:
            raise InputError(f"--steps is {steps!r}", hint="let them rise and end at 100")
    return How(percents, seconds(bake) if bake not in ("", "0", "0s") else _none(bake, release))


def _verdict(site: Site) -> str:
    return "dry" if site.dry else "live"


def _none(bake: str, release: Release) -> float:
    return 0.0 if bake else release.bake


@task(  # type: ignore[untyped-decorator]
    name="deploy",
    help=helped(
        *("env", "dry", "json", "yes", "wait"),
        release=RELEASE,
        training="Its training image, sha256:… beside --release=sha256:…; by default by its tag.",
        strategy="blue-green or canary; by default as the environment says.",
        steps="Percentages of the requests for a canary, as in 5,25,50,100.",
        bake="How long to watch after the switch and after each step, as in 30s.",
        allow_dirty="Deploy the image of a tree that had changes.",
    ),
)
def deploy_task(
    context: Context,
    env: str = "staging",
    release: str | None = None,
    training: str | None = None,
    strategy: str = "",
    steps: str = "",
    bake: str = "",
    wait: str = "",
    allow_dirty: bool = False,
    yes: bool = False,
    dry: bool = False,
    json: bool = False,
) -> None:
    """Bring a release to all hosts, or leave them as they are: inv deploy --env staging.

    It never builds: the image must be in the registry (inv build push). Riders have the release
    that they had until the new one has proved itself on every host, and again if it fails later.
    """
    with told(), site_of(context, env, dry) as site:
        how = how_of(site.env.release, strategy, steps, bake)
        patience = seconds(wait) if wait else 0.0
        if site.env.protected and not site.dry:
            confirm(f"deploy {release or 'the image of this commit'} to {env}", yes)
        with reported(site, "deploy", release or "") as facts:
            target = target_of(site.env, release, training, allow_dirty, site.show)
            facts["Release"] = target.release
            deploy(site, target, how, wait=patience)
        if json:
            print(dumps({"environment": env, **vars(target), "verdict": _verdict(site)}))


@task(  # type: ignore[untyped-decorator]
    name="rollback",
    help=helped(
        *("env", "dry", "json", "yes", "wait"),
        to="A release to go to; by default the former one.",
        of="Go back from this release, a tag or sha256:…, and from no other.",
        with_model="Then put the former version of the model into production as well.",
    ),
)
def rollback_task(
    context: Context,
    env: str = "staging",
    to: str = "",
    of: str = "",
    with_model: bool = False,
    wait: str = "",
    yes: bool = False,
    dry: bool = False,
    json: bool = False,
) -> None:
    """Give riders the former release again, at once: inv rollback.

    A canary is aborted, a mixed fleet put on the older of its releases. A second rollback goes one
    release further back, never forward. The model follows once all hosts have gone back.
    """
    with told(), site_of(context, env, dry) as site:
        patience = seconds(wait) if wait else 0.0
        if site.env.protected and not site.dry:
            confirm(f"roll {env} back" + (" with its model" if with_model else ""), yes)
        document = {"environment": env}
        with reported(site, "rollback", to) as facts:
            target = _service_back(site, to, of, patience, with_model)
            facts["Release"] = target.release
            if with_model:
                document["model"] = facts["Model"] = rollback_model(site, target)
        if json:
            print(dumps(document | vars(target) | {"verdict": _verdict(site)}))


def _service_back(site: Site, to: str, of: str, wait: float, with_model: bool) -> Target:
    try:
        return rollback(site, to, of=of, wait=wait)
    except BikecastError as error:
        if with_model:
            error.what = f"{error.what}; the model was left as it is"
        raise


@task(help=helped("env", "dry", "yes"))  # type: ignore[untyped-decorator]
def canary_promote(
    context: Context, env: str = "staging", yes: bool = False, dry: bool = False
) -> None:
    """Give a canary all requests now: inv canary-promote.

    Exit code 1 where riders do not have it afterwards.
    """
    with told(), site_of(context, env, dry) as site:
        if site.env.protected and not site.dry:
            confirm(f"promote the canary of {env}", yes)
        with reported(site, "canary-promote"):
            decide(site, "promote")


@task(help=helped("env", "dry", "yes"))  # type: ignore[untyped-decorator]
def canary_abort(
    context: Context, env: str = "staging", yes: bool = False, dry: bool = False
) -> None:
    """Take all requests from a canary now: inv canary-abort.

    Exit code 1 where riders do not have the stable release afterwards.
    """
    with told(), site_of(context, env, dry) as site:
        if site.env.protected and not site.dry:
            confirm(f"abort the canary of {env}", yes)
        with reported(site, "canary-abort"):
            decide(site, "abort")


@task(help=helped("env", "dry", "yes"))  # type: ignore[untyped-decorator]
def proxy_upgrade(
    context: Context, env: str = "staging", yes: bool = False, dry: bool = False
) -> None:
    """Replace the proxies by ones with the environment's settings: inv proxy-upgrade.

    For another image, port, certificate or configuration; see the README for what it costs.
    """
    with told(), site_of(context, env, dry) as site:
        if site.env.protected and not site.dry:
            confirm(f"replace the proxies of {env}", yes)
        proxy.upgrade(site)


@task(help=helped("env", "dry", "json", "yes"))  # type: ignore[untyped-decorator]
def unlock(
    context: Context,
    env: str = "staging",
    yes: bool = False,
    dry: bool = False,
    json: bool = False,
) -> None:
    """Take the lock away from whoever holds it: inv unlock.

    Whoever that was changes nothing any more. A lock whose owner is gone expires by itself.
    """
    with told(), site_of(context, env, dry) as site:
        states, gone = look_if_up(site)
        held = {h.name: s.lock.owner for h, s in states.items() if s.lock}
        if held and not site.dry:
            owner = next(iter(held.values())).get("who", "somebody")
            confirm(f"take the lock of {env} away from {owner}", yes)
        broken, failed = site.fleet.each(
            lambda h: h.run(commands.break_lock(site.directory)), tuple(states)
        )
        freed = {h.name: held[h.name] for h in broken if h.name in held}
        site.say(f"unlocked {', '.join(freed) or 'nothing: no host was locked'}")
        if json:
            print(dumps(freed))
        if missing := gone | failed:
            raise together(missing)
