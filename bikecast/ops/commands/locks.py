"""The lock of a host: taken, kept, given back, and needed by whatever changes something."""

from dataclasses import replace

from bikecast.ops.commands.base import Command, LOCK_EXPIRES, script

BEAT_WITHIN = 10.0  # seconds; a heartbeat that takes longer must not keep the next one waiting

# Whoever takes, keeps or uses the lock does so behind the same flock, one at a time. The age of a
# lock is that of its heartbeat by the host's own clock, so clocks that differ do not matter.
GUARD = """cd "$1" || exit 66; exec 9>>guard
flock -w 10 9 || { echo "its lock was busy for 10 s: inv status says who is at work" >&2; exit 1; }
"""
HOLDING = GUARD + '[ "$(cat lock/token 2>/dev/null)" = "$2" ] || exit 75; '
TAKE = GUARD + """
if ! mkdir lock 2>/dev/null; then
  [ -d lock ] || mkdir lock || exit 1
  if [ "$(cat lock/token 2>/dev/null)" != "$2" ]; then
    age=$(($(date +%s) - $(stat -c %Y lock/token 2>/dev/null || stat -c %Y lock)))
    owner=$(cat lock/owner 2>/dev/null)
    if [ "$age" -lt "$4" ] && [ "$owner" != "$5" ]; then echo "held $age $owner"; exit 0; fi
    echo "over $age $owner"
  fi
fi
# What was wished of the former owner, or is known of its end, does not concern the new one.
[ "$(cat lock/token 2>/dev/null)" = "$2" ] || rm -f lock/wish broken
{ printf %s "$3" > lock/owner && printf %s "$2" > lock/token; } || { rm -rf lock; exit 1; }
"""


def take_lock(directory: str, token: str, owner: str, dead: str = "") -> Command:
    """Take the lock: nothing is printed, or ``held AGE OWNER``, or ``over AGE OWNER`` taken over.

    :param owner: one line of JSON that says who, why, from where.
    :param dead: an owner that is known to have ended: its lock is taken over at once.
    """
    return script(TAKE, directory, token, owner, LOCK_EXPIRES, dead or "-", what="taking its lock")


def keep_lock(directory: str, token: str) -> Command:
    """The heartbeat: the lock is still in use."""
    beat = script(HOLDING + "touch lock/token", directory, token, what="keeping its lock")
    return replace(beat, timeout=BEAT_WITHIN)


def release_lock(directory: str, token: str) -> Command:
    """Give the lock back."""
    return script(HOLDING + "rm -rf lock", directory, token, what="giving its lock back")


BREAK = "cat lock/owner 2>/dev/null; mv lock/token broken 2>/dev/null; rm -rf lock"


def break_lock(directory: str) -> Command:
    """Take the lock away from whoever has it; prints who that was.

    Whose canary it was is kept: it goes back by itself, as that of a dead deployer does.
    """
    return script(GUARD + BREAK, directory, what="breaking its lock")


# For what takes longer than others should wait behind the flock.
OURS = '[ "$(cat "$1/lock/token" 2>/dev/null)" = "$2" ] || exit 75; '


def holding(directory: str, token: str, *argv: str) -> Command:
    """A command that is run only while the lock is ours."""
    return script(OURS + 'shift 2; exec "$@"', directory, token, *argv)
