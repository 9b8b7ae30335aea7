"""Releases on real hosts, with riders asking all the while: what each may cost, and no more.

Unmarked cases are the core that every run of CI takes; the rest are run by `nox -s e2e -- --all`.
"""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from fleet.client import Load
from fleet.images import ensure_base
from fleet.machine import GATEWAY, until
from fleet.registry import Registry
from fleet.service import STATIONS, Database, publish
from fleet.stage import (
    FIRST,
    MIGRATES,
    MIGRATES_BADLY,
    NEXT,
    RATE,
    SPOILED,
    Stage,
    agree,
    said_until,
    unharmed,
)
from lacking import lacking
from readme import readme_lines
from tracking import tracking_server

from bikecast.collect import import_panel
from bikecast.ops.commands.proxies import LOG_PIECE
from bikecast.records import TARGETS
from bikecast.store import ensure_database

pytestmark = pytest.mark.e2e
full = pytest.mark.full

NEW_YEAR = datetime(2026, 1, 1)


def test_first_deploy(stage: Stage) -> None:
    """From hosts with nothing but Docker to a service that answers on each."""
    stage.reset()
    unfit = stage.deploy(FIRST)
    assert unfit.code == 2 and "not set up" in unfit.last and "inv setup" in unfit.last
    assert stage.inv("setup").code == 0
    done = stage.deploy(FIRST, "--bake", "2s", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["release"] == FIRST
    agree(stage, FIRST)
    with Load(stage.urls(), rate=RATE, header="X-Bikecast-Colour") as load:
        time.sleep(2)
        assert set(unharmed(load)) == {"blue"}


def test_next_deploy(riders: Load, live: Stage) -> None:
    """No rider notices; the former release stays warm."""
    colour = live.status()["hosts"][0]["colour"]
    done = live.deploy(NEXT, "--bake", "2s")
    assert done.code == 0, done.err
    agree(live, NEXT)
    assert len(unharmed(riders)) == 2
    found = live.status()["hosts"][0]
    assert found["colour"] != colour and found["idle"] == f"{FIRST} (running)"


def test_rollback(riders: Load, live: Stage) -> None:
    """One rename on each host; a second rollback does not roll forward."""
    assert live.deploy(NEXT, "--bake", "0s").code == 0
    former = live.status()["hosts"][0]["colour"]
    began = time.monotonic()
    done = live.inv("rollback")
    assert done.code == 0, done.err
    agree(live, FIRST)
    unharmed(riders)
    back = {"blue": "green", "green": "blue"}[former]
    assert all(riders.first_answer_of(back, began, url) for url in live.urls())
    again = live.inv("rollback")
    assert again.code == 1 and "there is no release before" in again.last, again.err
    agree(live, FIRST)


def test_canary_to_the_end(riders: Load, live: Stage) -> None:
    """A share of the requests, then all of them."""
    done = live.deploy(NEXT, "--strategy", "canary", "--steps", "20,100", "--bake", "4s")
    assert done.code == 0, done.err
    assert "has 20 % of the requests" in done.err and "at 20 %: go on" in done.err
    agree(live, NEXT)
    unharmed(riders)


def test_failing_after_the_switch(riders: Load, live: Stage) -> None:
    """All hosts go back by themselves; only the broken release's own answers were bad."""
    done = live.deploy(SPOILED, "--bake", "15s")
    assert done.code == 1, done.err
    assert "answers failed" in done.last and "all hosts went back" in done.last
    agree(live, FIRST)
    failed = riders.counts()
    assert set(failed) <= {"ok", "status 500"} and failed["status 500"], failed
    quiet = time.monotonic()
    time.sleep(1)
    assert set(riders.counts(after=quiet)) == {"ok"}


def test_one_bad_host(riders: Load, live: Stage) -> None:
    """Where one of two cannot run it, neither gets it."""
    bad = live.hosts[1]
    block = ["-p", "tcp", "--dport", "55432", "-j", "REJECT"]
    bad.run("iptables", "-I", "FORWARD", *block)
    try:
        done = live.deploy(NEXT)
    finally:
        bad.run("iptables", "-D", "FORWARD", *block)
    assert done.code == 1 and f"{bad.ip}: GET /ready says: the database" in done.last, done.err
    assert f"{bad.ip}|" in done.err, "its last log lines are shown"
    agree(live, FIRST)
    unharmed(riders)


def test_killed_while_switching(riders: Load, live: Stage) -> None:
    """The next deploy finds out where things stand and finishes."""
    killed = live.interrupted("smoke test passed", signal.SIGKILL, "deploy", "--release", NEXT)
    assert killed.code == -signal.SIGKILL
    done = live.deploy(NEXT, "--bake", "0s")
    assert done.code == 0 and "is taken over" in done.err, done.err
    agree(live, NEXT)
    unharmed(riders)


@full
def test_a_canary_that_is_too_slow_or_fails_goes_back(riders: Load, live: Stage) -> None:
    """At its first step; few riders saw it."""
    words = ("--strategy", "canary", "--steps", "10,100", "--bake", "20s")
    done = live.deploy(SPOILED, *words)
    assert done.code == 1 and "at 10 %" in done.last, done.err
    agree(live, FIRST)
    counts = riders.counts()
    assert counts["status 500"] < 0.1 * sum(counts.values())


@full
def test_a_canary_with_too_little_traffic_waits_for_people(live: Stage) -> None:
    """It stays at its weight, exit code 1; then promoted, and another one aborted."""
    words = ("--strategy", "canary", "--steps", "20,100", "--bake", "2s")
    held = live.deploy(NEXT, *words)
    assert held.code == 1 and "the canary stays at 20 %" in held.last, held.err
    assert "canary-promote" in live.inv("status").out
    assert live.inv("canary-promote").code == 0
    agree(live, NEXT)
    assert live.deploy(FIRST, *words).code == 1
    assert live.inv("canary-abort").code == 0
    agree(live, NEXT)
    assert live.inv("canary-abort").code == 2


@full
def test_people_decide_on_a_canary_that_is_watched(riders: Load, live: Stage) -> None:
    """Its deployer does what is asked."""
    words = ("deploy", "--release", NEXT, "--strategy", "canary", "--steps", "20,100")
    process = live.start(*words, "--bake", "60s")
    said_until(process, "has 20 %")
    asked = live.inv("canary-abort")
    rest = process.communicate(timeout=60)[1]
    assert asked.code == 0 and process.returncode == 1 and "abort was asked for" in rest, rest
    agree(live, FIRST)
    unharmed(riders)


@full
def test_rollback_to_an_older_release_by_its_image(riders: Load, live: Stage) -> None:
    """It is started again; no version needs to be remembered, but one may be named."""
    other = live.release("fffffffffff6")
    for tag in (NEXT, other):
        assert live.deploy(tag, "--bake", "0s").code == 0
    done = live.inv("rollback", "--to", FIRST)
    assert done.code == 0 and "started from its image" in done.err, done.err
    agree(live, FIRST)
    unknown = live.inv("rollback", "--to", "999999999999")
    assert unknown.code == 2 and "no release '999999999999' was live here" in unknown.last
    unharmed(riders)


@full
def test_migrations(riders: Load, live: Stage) -> None:
    """One that fails changes nothing; after one that expands the older release is still read."""
    bad = live.release("aaaaaaaaaaa7", MIGRATES_BADLY)
    done = live.deploy(bad)
    assert done.code == 1 and "could not be migrated" in done.last, done.err
    agree(live, FIRST)
    good = live.release("aaaaaaaaaaa8", MIGRATES)
    try:
        assert live.deploy(good, "--bake", "0s").code == 0
        agree(live, good)
        assert live.inv("rollback").code == 0
        agree(live, FIRST)
        assert live.deploy(good, "--bake", "0s").code == 0
        assert live.inv("rollback", "--to", FIRST).code == 0
        agree(live, FIRST)
    finally:
        live.database.back_to_its_schema()
    unharmed(riders)


@full
def test_a_warm_or_a_stopped_former_release(riders: Load, live: Stage) -> None:
    """By setting: stopped costs nothing, and rolls back as soon as it is healthy."""
    live.write({"release.previous": '"stopped"', "release.bake": "0"})
    assert live.deploy(NEXT).code == 0
    assert live.status()["hosts"][0]["idle"] == f"{FIRST} (exited)"
    assert live.inv("rollback").code == 0
    agree(live, FIRST)
    unharmed(riders)


@dataclass(frozen=True)
class Tracked:
    """A city in a database, and a tracking server that the hosts reach as well."""

    url: str
    database: Database
    folder: Path

    def bikecast(self, *words: str) -> str:
        """What a command on this machine prints."""
        own = {
            "BIKECAST_DATABASE_URL": self.database.url,
            "BIKECAST_MLFLOW_TRACKING_URI": self.url,
            "BIKECAST_DATA_DIR": str(self.folder),
        }
        return subprocess.run(
            [sys.executable, "-m", "bikecast", *words],
            env=os.environ | own,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=300,
        ).stdout

    def train(self, days: int) -> None:
        """Put a version into production that has learned from the days of the year until then."""
        hours = [NEW_YEAR + timedelta(hours=i) for i in range(24 * days)]
        panel = pl.DataFrame({"hour": hours}).join(
            pl.DataFrame({"station_id": [s.station_id for s in STATIONS]}), how="cross"
        )
        # With noise, which the day a week before has as well: a mean of weeks is better.
        flows = {
            target: pl.col("hour").dt.hour() % 7
            + pl.Series(random.Random(target).choices(range(6), k=len(panel)))
            for target in TARGETS
        }
        path = self.folder / f"{days}.parquet"
        panel.with_columns(**flows).write_parquet(path)
        import_panel(self.database.store, self.database.system, [path])
        self.bikecast("train", "--quick", "--promote")

    def in_production(self) -> list[str]:
        """The version."""
        found = json.loads(self.bikecast("model", "list", "--json"))
        return [each["version"] for each in found if "production" in each["aliases"]]

    def forecasts(self, version: str) -> bool:
        """Whether the newest forecast is that version's, from the end of the data on."""
        store, system = self.database.store, self.database.system
        issue, end = store.newest_issue(system), store.data_end(system).replace(tzinfo=UTC)
        return issue is not None and (issue.model_version, issue.as_of) == (version, end)


@pytest.fixture
def tracked(live: Stage, tmp_path: Path) -> Iterator[Tracked]:
    """With a model of 40 days in production."""
    runs = ensure_database(live.database.url, f"tracking_{tmp_path.name[-20:]}")
    with tracking_server(runs, tmp_path, GATEWAY) as url:
        found = Tracked(url, live.database, tmp_path)
        found.train(days=40)
        yield found
    publish(live.database.store)


@full
def test_a_refresher_keeps_the_table_fresh(riders: Load, live: Stage, tracked: Tracked) -> None:
    """The real training image, as the release starts it, issues with the model in production."""
    live.write({"service.mlflow_tracking_uri": f'"{tracked.url}"'})
    assert live.deploy(live.complete_release("bbbbbbbbbbb9"), "--bake", "0s").code == 0
    until(lambda: tracked.forecasts("1"), "no forecast was issued", 120)
    unharmed(riders)


@full
def test_service_and_model_go_back_together(riders: Load, live: Stage, tracked: Tracked) -> None:
    """Release and model before the last ones, in one command; forecasts come of that model."""
    live.write({"service.mlflow_tracking_uri": f'"{tracked.url}"'})
    before, after = (live.complete_release(tag) for tag in ("bbbbbbbbbbb9", "bbbbbbbbbb10"))
    assert live.deploy(before, "--bake", "0s").code == 0
    # By its recipe no worse than the first, which has seen most of the days that they are held on.
    tracked.train(days=44)
    assert live.deploy(after, "--bake", "0s").code == 0
    assert tracked.in_production() == ["2"]
    until(lambda: tracked.forecasts("2"), "no forecast of the later model", 120)
    done = live.inv("rollback", "--with-model", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["model"] == "1" and tracked.in_production() == ["1"]
    agree(live, before)
    until(lambda: tracked.forecasts("1"), "no forecast of the former model", 120)
    *_, last = json.loads(tracked.bikecast("model", "history", "--json"))
    assert (last["kind"], last["from_version"], last["to_version"]) == ("rollback", "2", "1")
    assert "by inv rollback --with-model" in last["who"]
    unharmed(riders)


@full
def test_proxy_upgrade(riders: Load, live: Stage) -> None:
    """Another proxy takes over while riders ask; what it costs is counted."""
    version = live.nginx.rpartition(":")[0]
    subprocess.run(["docker", "tag", live.nginx, "bikecast-stage-nginx"], check=True)
    live.registry.push("bikecast-stage-nginx", "nginx:next")
    live.write({"proxy.image": f'"{version}:next"'})
    try:
        told = live.deploy(NEXT, "--bake", "0s")
        assert told.code == 0 and "has older settings: `inv proxy-upgrade`" in told.err, told.err
        done = live.inv("proxy-upgrade")
        assert done.code == 0 and "new proxy on" in done.err, done.err
    finally:
        live.write()
    assert live.inv("proxy-upgrade").code == 0
    time.sleep(0.5)
    assert set(riders.counts()) == {"ok"}, riders.counts()


@full
def test_a_log_that_is_full(riders: Load, live: Stage) -> None:
    """The proxy goes on in a new file, the former one beside it; riders are still counted."""
    host = live.hosts[0]
    log = host.run("sh", "-c", "ls /opt/bikecast/proxy/*/log/access.log").strip()
    host.run("sh", "-c", f"head -c {LOG_PIECE} /dev/zero >> {log}")
    until(lambda: log + ".1" in host.run("sh", "-c", f"ls {log}*"), "it was not put aside", 30)
    done = live.deploy(NEXT, "--bake", "3s")
    assert done.code == 0 and "at 100 %: go on; 0 of " in done.err, done.err
    assert int(host.run("stat", "-c", "%s", log)) < LOG_PIECE
    unharmed(riders)


@full
def test_tls_at_the_proxy(live: Stage, registry: Registry) -> None:
    """With a certificate of one's own authority; smoke tests speak it too."""
    host = live.hosts[0]
    certificate, key = registry.authority.sign("proxy", *(h.ip for h in live.hosts))
    tls = f'{{certificate = {{file = "{certificate}"}}, key = {{file = "{key}"}}}}'
    live.write({"proxy.port": f"8443\ntls = {tls}"})
    try:
        done = live.inv("proxy-upgrade")
        assert done.code == 0, done.err
        urls = [f"https://{h.ip}:8443" for h in live.hosts]
        ca = registry.ca_file
        with Load(urls, rate=20, header="X-Bikecast-Colour", ca_file=ca) as load:
            assert live.deploy(NEXT, "--bake", "1s").code == 0
            unharmed(load)
        keys = host.run("grep", "-rl", "PRIVATE KEY", "/opt/bikecast").split()
        assert keys and host.run("stat", "-c", "%a", *keys).split() == ["600"] * len(keys)
    finally:
        live.write()
        assert live.inv("proxy-upgrade").code == 0


@full
def test_the_lines_of_the_readme(riders: Load, live: Stage, checkout: Path) -> None:
    """Every `inv` line of its page on releases, as it stands, from a fresh clone."""
    # tests/e2e/test_services.py, and tests/ops/test_train_for_real.py
    elsewhere = ("up", "backup", "restore", "down", "train")
    lines = [line for line in readme_lines("inv") if line.split()[1] not in elsewhere]
    assert live.deploy(live.release("0123456789ab"), "--bake", "0s").code == 0
    assert live.deploy(FIRST, "--bake", "0s").code == 0
    canary = ""
    for line in lines:
        words = shlex.split(line)[1:]
        if "canary" in words:
            canary = line
        elif words[0] in ("canary-promote", "canary-abort"):
            with live.start(*shlex.split(canary)[1:], cwd=checkout) as process:
                said_until(process, "has 5 %")
                assert live.inv(*words, cwd=checkout).code == 0
                process.communicate(timeout=120)
            assert process.returncode == (words[0] == "canary-abort")
        else:
            done = live.inv(*words, cwd=checkout, timeout=600)
            assert done.code == 0, (line, done.err)
    unharmed(riders)


@full
def test_a_build_takes_layers_from_the_registry(
    live: Stage, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an engine that never built anything no step is run anew."""
    if subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode:
        lacking("this machine has no buildx")
    built = live.inv("build", cwd=checkout, timeout=600)
    pushed = live.inv("push", cwd=checkout, timeout=300)
    assert (built.code, pushed.code) == (0, 0), built.err + pushed.err
    host = live.hosts[1]
    host.reboot()  # its engine reads whom to trust for builds when it starts
    base = subprocess.run(["docker", "save", ensure_base()], capture_output=True, check=True)
    socket = f"unix:///proc/{host.pid}/root/run/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", socket)
    subprocess.run(["docker", "load"], input=base.stdout, capture_output=True, check=True)
    again = live.inv("build", cwd=checkout, timeout=600)
    assert again.code == 0, again.err
    said = again.out + again.err
    assert said.count("importing cache manifest from") == 2, said
    for part in said.split("load build definition")[1:]:
        steps = set(re.findall(r"^#(\d+) \[.*\] RUN ", part, re.MULTILINE))
        assert steps and not steps & set(re.findall(r"^#(\d+) DONE", part, re.MULTILINE)), said
