"""`inv --list`: the tasks of bikecast.ops, gathered."""

from invoke import Collection

from bikecast.ops import tasks

namespace = Collection.from_module(tasks)
