"""What must not happen on real hosts, whatever was asked for."""

import time
from pathlib import Path

import pytest
from fleet.client import Load
from fleet.stage import FIRST, NEXT, Stage, agree, unharmed

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


SECRETS = ("geheim-4711", "geheim-registry-0815")


def test_secrets_are_nowhere_to_be_seen(live: Stage, tmp_path: Path) -> None:
    """Not in argv, environments, inspect, logs, layers or output; files are the user's alone."""
    seen: list[str] = []
    process = live.start("deploy", "--release", NEXT, "--bake", "1s")
    while process.poll() is None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        time.sleep(0.02)
    seen += process.communicate(timeout=60)
    assert process.returncode == 0, seen[-1]
    for host in live.hosts:
        names = host.docker("ps", "-aq").split()
        seen += [host.docker("inspect", *names), host.docker("logs", names[0])]
        seen.append(host.docker("history", "--no-trunc", *host.docker("images", "-q").split()[:1]))
        folder = host.directory
        modes = host.run("find", "/opt/bikecast/secrets", "-type", "f", "-printf", "%m ")
        assert set(modes.split()) == {"600"}, modes
        seen.append((Path(folder) / "history.jsonl").read_text())
        seen.append(host.run("sh", "-c", "cat ~deploy/.docker/config.json 2>/dev/null; :"))
    seen += [live.inv("env").out, live.inv("releases").out, live.inv("logs").out]
    for secret in SECRETS:
        assert not [text[:200] for text in seen if secret in text]


def test_bad_input_touches_nothing(riders: Load, live: Stage) -> None:
    """One clear line and exit code 2."""
    for words, says in (
        (("deploy", "--env", "nowhere"), "no environment 'nowhere'"),
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
