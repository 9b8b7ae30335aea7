"""What must not happen on real hosts, whatever was asked for."""

import base64
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fleet.client import Load
from fleet.hosts import Host
from fleet.stage import FIRST, MLFLOW_PASSWORD, NEXT, Stage, agree, unharmed

pytestmark = [pytest.mark.e2e, pytest.mark.full]


def test_dry_runs_touch_nothing(live: Stage) -> None:
    """Every command is printed for every host; the hosts stay as they are."""
    assert live.deploy(NEXT, "--bake", "0s").code == 0
    before = live.status()
    for words in (
        ("deploy", "--release", NEXT, "--dry"),
        ("--dry", "deploy", "--release", NEXT),
        ("rollback", "--dry"),
        ("deploy", "--release", NEXT, "--strategy", "canary", "--dry"),
        ("proxy-upgrade", "--dry"),
    ):
        done = live.inv(*words)
        assert done.code == 0, done.err
        assert all(f"{h.ip}$ " in done.err for h in live.hosts)
        assert live.database.password not in done.err + done.out
    after = live.status()
    for rows in (before, after):
        for row in rows["hosts"]:
            # These two change by themselves.
            del row["uptime"], row["health"]
    assert after == before


def secrets(stage: Stage) -> dict[str, str]:
    """What nobody may see, and as which words it could be seen."""
    login = f"{stage.registry.username}:{stage.registry.password}"
    return {
        "the database's password": stage.database.password,
        "the registry's password": stage.registry.password,
        "the registry's login as Docker keeps it": base64.b64encode(login.encode()).decode(),
        "MLflow's password": MLFLOW_PASSWORD,
        "the key of hosts": stage.fleet.key.splitlines()[1],
    }


def test_secrets_are_nowhere_to_be_seen(live: Stage) -> None:
    """Not in argv, environments, inspect, logs, layers or output; files are the user's alone."""
    seen: dict[str, str] = {}
    process = live.start("deploy", "--release", NEXT, "--bake", "1s")
    while process.poll() is None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            seen[f"argv: {words}"] = words
        time.sleep(0.02)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    seen |= {"output of the deploy": out + err}
    for words in ("env", "releases", "logs", "status"):
        seen[f"output of inv {words}"] = (said := live.inv(words)).out + said.err
    for host in live.hosts:
        seen |= {f"{host.name}: {what}": text for what, text in shown_by(host).items()}
        modes = host.run("find", "/opt/bikecast/secrets", "-type", "f", "-printf", "%m ")
        assert set(modes.split()) == {"600"}, modes
    for what, secret in secrets(live).items():
        assert not [where for where, text in seen.items() if secret in text], what


def shown_by(host: Host) -> dict[str, str]:
    """What somebody on a host could read without opening the files of secrets."""
    names = host.docker("ps", "-aq").split()
    images = host.docker("images", "-q").split()
    logs = "; ".join(f"docker logs {name} 2>&1" for name in names)
    # What is the host's own: it shares all else with the machine, which holds the registry.
    texts = ("find /home /opt /tmp /run -name config.json -exec cat {} +", "ls -R /tmp")
    return {
        "inspect": host.docker("inspect", *names),
        "logs": host.run("sh", "-c", logs),
        "layers": "".join(host.docker("history", "--no-trunc", image) for image in images),
        "environments": host.run("sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null; :"),
        "argv": host.run("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null; :"),
        "log of releases": (host.directory / "history.jsonl").read_text(),
        **{text: host.run("sh", "-c", f"{text} 2>/dev/null; :") for text in texts},
    }


def test_bad_input_touches_nothing(riders: Load, live: Stage) -> None:
    """One clear line and exit code 2."""
    (live.folder / "deploy/environments/broken.toml").write_text("protected = false\n[hosts\n")
    for words, says in (
        (("deploy", "--env", "nowhere"), "no environment 'nowhere'"),
        (("deploy", "--env", "broken"), "broken.toml is no TOML: "),
        (("deploy", "--release", "111111111111"), "`inv build push`"),
        (("deploy", "--release", "sha256:" + "0" * 64), "`inv build push`"),
        (("deploy", "--release", "sha256:123"), "neither a tag nor a digest"),
        (("deploy", "--release", NEXT, "--strategy", "hope"), "--strategy is 'hope'"),
        (("deploy", "--release", NEXT, "--bake", "soon"), "'soon' is not a duration"),
        (("logs", "--host", "nine"), "no host 'nine'"),
    ):
        done = live.inv(*words)
        assert done.code == 2 and says in done.last, (words, done.err)
    agree(live, FIRST)
    unharmed(riders)


def test_a_dirty_tree_is_not_deployed(riders: Load, live: Stage, checkout: Path) -> None:
    """What the commit names is not what lies there."""
    (checkout / "README.md").write_text("changed")
    try:
        done = live.inv("deploy", cwd=checkout)
    finally:
        subprocess.run(["git", "-C", checkout, "checkout", "-q", "README.md"], check=True)
    assert done.code == 2 and "README.md" in done.last, done.err
    agree(live, FIRST)
    unharmed(riders)


@contextmanager
def covered(host: Host, program: str, text: str, mode: str) -> Iterator[None]:
    """Let a program be another file on this host; the real one is ``/run/real`` meanwhile."""
    host.run("cp", program, "/run/real")
    host.run("sh", "-c", 'printf "%s\\n" "$1" > /run/other', "sh", text)
    host.run("chmod", mode, "/run/other")
    host.run("mount", "--bind", "/run/other", program)
    try:
        yield
    finally:
        host.run("umount", program)


def test_a_host_without_docker_is_refused(riders: Load, live: Stage) -> None:
    """Before anything is done to the other."""
    host = live.hosts[1]
    with ExitStack() as stack:
        for program in host.run("which", "-a", "docker").split():
            if host.run("realpath", program).strip() == program:
                stack.enter_context(covered(host, program, "", "644"))
        done = live.deploy(NEXT)
    assert done.code == 2 and f"{host.ip} has no Docker" in done.last, done.err
    agree(live, FIRST)
    unharmed(riders)


def test_a_host_whose_clock_is_off_is_refused(riders: Load, live: Stage) -> None:
    """Its log of releases and the age of its locks would be wrong."""
    host = live.hosts[1]
    late = '#!/bin/sh\nexec /run/real -d "1 hour ago" "$@"'
    with covered(host, "/usr/bin/date", late, "755"):
        done = live.deploy(NEXT)
    assert done.code == 2 and host.ip in done.last and "clock" in done.last, done.err
    agree(live, FIRST)
    unharmed(riders)


def test_an_unknown_host_key_is_refused(live: Stage) -> None:
    """With what it shows, and how to accept it."""
    (live.folder / "known_hosts").write_text("# nobody\n")
    unknown = live.inv("status")
    assert "is not known; it shows ssh-ed25519 SHA256:" in unknown.out + unknown.err
    assert "ssh-keyscan" in live.deploy(NEXT).last
    swapped = live.fleet.known_hosts.replace(live.hosts[0].ip, "x").replace(
        live.hosts[1].ip, live.hosts[0].ip
    )
    (live.folder / "known_hosts").write_text(swapped)
    other = live.deploy(NEXT)
    assert other.code == 2 and "another host key" in other.last, other.err
