"""The images that tests stand on: pulled where that is possible, else of Debian's packages."""

import subprocess

from fleet.machine import FleetError
from fleet.registry import Registry

BASE = "python:3.11-slim-bookworm"
NGINX = "nginx:1.28"
STAND_IN = "bikecast-fleet-nginx"

# As the official image: logs on the container's output, nothing else of its own.
DOCKERFILE = f"""
FROM {BASE}
RUN apt-get update -q && apt-get install -y -q --no-install-recommends nginx-light \\
 && rm -rf /var/lib/apt/lists/* \\
 && ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log
CMD ["nginx", "-g", "daemon off;"]
STOPSIGNAL SIGQUIT
"""


def ensure_base() -> str:
    """The base image of everything that is built, on this machine's engine.

    :raises FleetError: where it is neither here nor to be had.
    """
    if not _there(BASE):
        raise FleetError(f"no image {BASE} on this machine, and it cannot be pulled")
    return BASE


def nginx_image(registry: Registry) -> str:
    """nginx in the registry, as ``…/nginx:1.28``: the official one, or Debian's."""
    local = NGINX
    if not _there(NGINX):
        local = STAND_IN
        _build(ensure_base())
    registry.push(local, NGINX)
    return f"{registry.address}/{NGINX}"


def _there(image: str) -> bool:
    return _docker("image", "inspect", image) or _docker("pull", "-q", image)


def _docker(*words: str) -> bool:
    return subprocess.run(["docker", *words], capture_output=True, timeout=300).returncode == 0


def _build(base: str) -> None:
    # The second time, every layer comes from the engine's cache.
    done = subprocess.run(
        ["docker", "build", "-q", "-t", STAND_IN, "-"],
        input=DOCKERFILE,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise FleetError(f"{NGINX} cannot be pulled, nor made from {base}: {done.stderr}")
