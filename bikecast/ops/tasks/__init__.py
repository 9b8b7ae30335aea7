"""Invoke tasks; each parses, calls, prints. `inv --list` reads like a manual."""

from bikecast.ops.tasks.about import show_environment, version
from bikecast.ops.tasks.looking import execute, logs, releases, setup_task, smoke, status
from bikecast.ops.tasks.images import build, push, sbom_task
from bikecast.ops.tasks.notices import notify
from bikecast.ops.tasks.releasing import (
    canary_abort,
    canary_promote,
    deploy_task,
    proxy_upgrade,
    rollback_task,
    unlock,
)
from bikecast.ops.tasks.services import backup, down, restore, up
from bikecast.ops.tasks.training import train

__all__ = [
    "backup",
    "build",
    "canary_abort",
    "canary_promote",
    "deploy_task",
    "down",
    "execute",
    "logs",
    "notify",
    "proxy_upgrade",
    "push",
    "releases",
    "restore",
    "rollback_task",
    "sbom_task",
    "setup_task",
    "show_environment",
    "smoke",
    "status",
    "train",
    "unlock",
    "up",
    "version",
]
