"""Release to two real hosts under load, roll back, and hold the times against the promise.

Run by `nox -s bench -- deploy`; needs what the e2e tests need; exits 1 where a promise is broken.
"""

import os
import platform
import re
import socket
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fleet.client import Load  # noqa: E402 - the tests' helpers are not installed
from fleet.hosts import Fleet, Host  # noqa: E402
from fleet.registry import Registry  # noqa: E402
from fleet.service import Database  # noqa: E402
from fleet.stage import Stage  # noqa: E402

FIRST, NEXT = "aaaaaaaaaaa1", "bbbbbbbbbbb2"
RATE = 150  # requests per second and host
ROUNDS = 3
TRIAL = "trial"  # folder for the socket of a service that is started beside the live one
LONGEST_DEPLOY = 6.0  # seconds beyond the service's own start
LONGEST_ROLLBACK = 1.5  # seconds, the whole command until the last host's first answer
LONGEST_SWITCH = 0.3  # seconds


def own_start(hosts: list[Host]) -> float:
    """Seconds that the service itself needs on all hosts, started at once as a deploy does."""
    with ThreadPoolExecutor() as pool:
        return max(pool.map(_own_start, hosts))


def _own_start(host: Host) -> float:
    """Seconds from `docker run` until it is healthy."""
    live = host.docker("ps", "-q", "--filter", "name=^bikecast-(blue|green)$").split()[0]
    image = host.docker("inspect", "-f", "{{.Config.Image}}", live).strip()
    settings = host.docker("inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", live)
    words = [
        w
        for line in settings.split("\n")
        if line.startswith("BIKECAST_")
        for w in ("--env", line)
        if "BIND" not in line
    ]
    mount = host.docker("inspect", "-f", "{{range .Mounts}}{{println .Source}}{{end}}", live)
    secrets = next(line for line in mount.split("\n") if "secrets" in line)
    user = host.docker("inspect", "-f", "{{.Config.User}}", live).strip()
    host.run(
        "sh", "-c", f"cd /opt/bikecast && rm -rf {TRIAL} && mkdir {TRIAL} && chown {user} {TRIAL}"
    )
    began = time.monotonic()
    host.docker(
        *("run", "-d", "--name", "trial", "--user", user, "--read-only", "--tmpfs", "/tmp"),
        *(*words, "--volume", f"{secrets}:/run/secrets:ro"),
        *("--env", "BIKECAST_BIND=unix:/run/bikecast/api.sock"),
        *("--volume", f"/opt/bikecast/{TRIAL}:/run/bikecast", image),
    )
    while not healthy(host.directory / TRIAL / "api.sock"):
        time.sleep(0.02)
    took = time.monotonic() - began
    host.docker("rm", "-f", "trial")
    return took


def healthy(path: Path) -> bool:
    """Whether the service at a socket says so; asked without a process of its own."""
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(str(path))
            asking.sendall(b"GET /health HTTP/1.1\r\nHost: trial\r\nConnection: close\r\n\r\n")
            return b" 200 " in asking.recv(64)
        except OSError:
            return False


def one_round(stage: Stage, load: Load) -> tuple[float, float, float]:
    """Seconds of a deploy, of a rollback until the last host's first answer, of its switch."""
    assert stage.deploy(FIRST, "--bake", "0s").code == 0
    deployed = stage.deploy(NEXT, "--bake", "0s")
    assert deployed.code == 0, deployed.err
    colour = stage.status()["hosts"][0]["colour"]
    former = {"blue": "green", "green": "blue"}[colour]
    began = time.monotonic()
    back = stage.inv("rollback")
    assert back.code == 0, back.err
    time.sleep(0.2)
    answers = [load.first_answer_of(former, began, url) for url in stage.urls()]
    assert all(answers), back.err
    until = max(a.ended for a in answers if a) - began
    switch = re.search(r"switched .* in ([\d.]+) s", back.err)
    assert switch is not None
    print(
        f"deploy {deployed.seconds:.2f} s; rollback: whole command {back.seconds:.2f} s, last "
        f"host's first answer of the former release after {until:.2f} s, switch {switch[1]} s",
        flush=True,
    )
    return deployed.seconds, max(until, back.seconds), float(switch[1])


def main() -> int:
    """Print the machine and what was measured; 1 where a bar is missed."""
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as name, Fleet() as fleet:
        hosts = fleet.add("one", "two")
        with Registry() as registry, Database() as database:
            stage = Stage(Path(name), fleet, hosts, registry, database)
            for tag in (FIRST, NEXT):
                stage.release(tag)
            assert stage.inv("setup").code == 0
            for tag in (FIRST, NEXT):
                first = stage.deploy(tag, "--bake", "0s")
                assert first.code == 0, first.err
            with Load(stage.urls(), rate=RATE, header="X-Bikecast-Colour") as load:
                start = statistics.median(own_start(hosts) for _ in range(ROUNDS))
                rounds = [one_round(stage, load) for _ in range(ROUNDS)]
                counts = load.counts()
    deploy, rollback, switch = (statistics.median(column) for column in zip(*rounds, strict=True))
    failed = sum(counts.values()) - counts["ok"]
    bars = [
        ("deploy beyond the service's own start", deploy - start, LONGEST_DEPLOY, "s"),
        ("rollback, whole command", rollback, LONGEST_ROLLBACK, "s"),
        ("the switch itself", switch, LONGEST_SWITCH, "s"),
        (f"failed requests of {sum(counts.values()):,}", failed, 0, ""),
    ]
    print(
        f"the service's own start on both at once: {start:.2f} s; {RATE} requests/s per host; "
        f"medians of {ROUNDS}"
    )
    for what, value, most, unit in bars:
        print(f"{'ok ' if value <= most else 'NO '} {what}: {value:.2f} {unit} (at most {most})")
    return 0 if all(value <= most for _, value, most, _ in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
