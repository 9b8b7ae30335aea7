"""``inv train``: a model from new data to production, by Airflow or on this machine."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from json import dumps

from invoke import Context, task

from bikecast.errors import BikecastError, InputError, Refused
from bikecast.ops import training
from bikecast.ops.asking import here, refresher, there
from bikecast.ops.environment import Airflow as Settings, Environment
from bikecast.ops.site import Site
from bikecast.ops.tasks.common import confirm, hand_on, helped, told
from bikecast.ops.tasks.work import site_of

ENDED = {"promoted": "good", "rejected": "warning", "inconclusive": "warning"}


@task(  # type: ignore[untyped-decorator]
    help=helped(
        *("env", "dry", "json", "yes"),
        local="Train and promote on this machine, without Airflow and hosts.",
        run="Take this run of Airflow up, which began before, instead of starting one.",
    )
)
def train(
    context: Context,
    env: str = "staging",
    local: bool = False,
    run: str = "",
    yes: bool = False,
    dry: bool = False,
    json: bool = False,
) -> None:
    """Train a model, ask the gate, and promote what passes: inv train --env staging.

    Airflow trains; this waits for the run that it started, shows the log of a task that fails, and
    promotes that run's version in the release. Exit code 0 where it was promoted, 1 where the gate
    says no or cannot tell, 3 where it could not run. Ctrl-C stops the waiting and not the run.
    """
    with told(), site_of(context, env, dry) as site, handed_on() as facts:
        if local and run:
            raise InputError("--local and --run are given", hint="a run is Airflow's: take one")
        if site.env.protected and not site.dry:
            confirm(f"train a model and promote it in {env}", yes)
        again = f"inv train --env {env}" + (" --local" if local else "")
        if site.dry:
            would(site, local)
            return
        if local:
            bikecast, verdict = here(site.env), training.train_here(here(site.env))
        else:
            refresher(site)  # before an hour of training, of which nothing could come
            run = run or begun(site, again)
            again = f"{again} --run {run}"
            bikecast, verdict = there(site), judged(site, run, again)
        facts |= {name: getattr(verdict, name) for name in ("version", "figures", "report")}
        site.say(f"{verdict}; {verdict.figures}")
        promoted: bool | None = None  # nobody knows, where it is cut off
        try:
            training.promote(verdict, bikecast, again)
            promoted = True
        except BikecastError as error:
            promoted = None if training.unknown(error.__cause__) else False
            raise
        finally:
            facts["verdict"] = named(verdict, promoted)
            if json:
                print(
                    dumps({"environment": env, "run": run, "promoted": promoted, **vars(verdict)})
                )
        if not json:
            print(f"version {verdict.version} is in production: {verdict.figures}")


def named(verdict: training.Verdict, promoted: bool | None) -> str:
    """What became of a version, for people.

    :param promoted: None where that is not known.
    """
    if promoted:
        return "promoted"
    if verdict.outcome == training.PROMOTE:
        return "perhaps promoted" if promoted is None else "not promoted"
    return "rejected" if verdict.outcome == "reject" else "inconclusive"


@contextmanager
def handed_on() -> Iterator[dict[str, str]]:
    """Hand on what later steps of a workflow tell people, however the block ends."""
    facts = dict.fromkeys(("figures", "why", "report"), "")
    facts |= {"verdict": "could not run", "version": "none"}
    try:
        yield facts
    except BikecastError as error:
        if isinstance(error, Refused) and facts["verdict"] == "not promoted":
            facts["verdict"] = "rejected"  # asked once more, the gate said no
        facts["why"] = str(error)
        raise
    finally:
        facts["kind"] = ENDED.get(facts["verdict"], "bad")
        hand_on(facts)


def would(site: Site, local: bool) -> None:
    """Show what a real run does."""
    version = "VERSION"
    if local:
        words = (training.TRAIN, training.validating({"version": version}))
        for each in (*words, training.promoting(version)):
            site.show("bikecast " + " ".join(each))
        return
    where = settings(site.env)
    dag = f"{where.url}/api/{where.api}/dags/{where.dag}"
    site.show(f"GET {dag}")
    site.show(f"POST {dag}/dagRuns")
    site.show(f"GET {dag}/dagRuns/RUN, until it is over")
    there(site)(training.promoting(version))


def settings(env: Environment) -> Settings:
    """The environment's Airflow.

    :raises InputError: where it has none.
    """
    if not env.airflow.url:
        raise InputError(
            f"{env.name} names no Airflow",
            hint="give it airflow.url, or train on this machine with --local",
        )
    return env.airflow


def begun(site: Site, again: str) -> str:
    """Start a run; its name, which no other has."""
    from bikecast.ops.airflow import Airflow, airflow_client

    run = f"inv-train-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    with airflow_client() as client:
        airflow = Airflow(settings(site.env), client)
        training.begin(airflow, run, f"started by {site.who}", f"{again} --run {run}")
        site.say(f"started the run {run}: {airflow.page(run)}")
    return run


def judged(site: Site, run: str, again: str) -> training.Verdict:
    """Wait for a run's end; the verdict of that run."""
    from bikecast.ops.airflow import Airflow, airflow_client

    with airflow_client() as client:
        airflow = Airflow(settings(site.env), client)
        try:
            training.watch(airflow, run, site.env.airflow.time_limit, again, site.say)
        except (KeyboardInterrupt, SystemExit):
            site.say(f"the run {run} goes on: look at {airflow.page(run)}; `{again}` waits on")
            raise
        return training.read_verdict(airflow, run, again)
