"""What every host does, a real one over SSH and the one in a folder alike.

Each function is one test: it gets a host that `inv setup` never saw, and its environment.
"""

from dataclasses import replace

import pytest

from bikecast.errors import CommandFailed, HostGone, LockLost
from bikecast.ops import commands
from bikecast.ops.commands import WATCH, Command, script
from bikecast.ops.environment import Environment
from bikecast.ops.host import Host
from bikecast.ops.images import registry_host
from bikecast.ops.state import HostState, parse_state


def look(host: Host, env: Environment) -> HostState:
    """How it stands."""
    return parse_state(host.run(commands.look(env.hosts.directory)))


def ready(host: Host, env: Environment) -> None:
    """Its folders, its lock, and an image."""
    host.run(commands.prepare(env.hosts.directory))
    host.run(commands.take_lock(env.hosts.directory, "token", '{"who": "ann"}'))
    pull(host, env)


def pull(host: Host, env: Environment, password: str | None = None) -> None:
    """Get the image of the proxy, which every environment has."""
    secret = env.registry.password.get_secret_value() if password is None else password
    place = registry_host(env.registry.image)
    host.run(commands.pull(place, env.registry.username, secret, [env.proxy.image]))


def start(host: Host, env: Environment, name: str) -> None:
    """Start a container that only waits."""
    label = f"{commands.LABEL}={env.hosts.directory}"
    words = ("docker", "run", "--detach", "--name", name, "--label", label)
    waiting = ("--entrypoint", "sleep", env.proxy.image, "1000")
    host.run(commands.holding(env.hosts.directory, "token", *words, *waiting))


def words_reach_the_program_as_they_are(host: Host, env: Environment) -> None:
    """Spaces, quotes and dollars; and what it reads."""
    words = ("a b", "$HOME", "'", '"', "", "ü", "a\nb")
    assert host.run(Command(("printf", "%s|", *words))) == "|".join(words) + "|"
    assert host.run(Command(("cat",), stdin="a secret\n")) == "a secret\n"


def an_exit_code_is_an_error(host: Host, env: Environment) -> None:
    """With the last line that was said; 75 is a lock that is lost."""
    with pytest.raises(CommandFailed, match=f"^{host.name}: last ") as error:
        host.run(script("echo first; echo last >&2; exit 3"))
    assert error.value.code == 3
    with pytest.raises(LockLost, match=host.name):
        host.run(script("exit 75"))


def a_time_limit_is_an_error_of_its_own(host: Host, env: Environment) -> None:
    """The host ends what takes too long; a 124 before that is any exit code."""
    slow = script("exec /bin/sleep 20", what="sleeping")
    with pytest.raises(HostGone, match=f"^{host.name}: sleeping did not end within 1 s; see "):
        host.run(replace(slow, timeout=0.6))
    with pytest.raises(CommandFailed, match="exit code 124"):
        host.run(script("exit 124"))


def a_host_tells_how_it_stands(host: Host, env: Environment) -> None:
    """Before it is set up, then without a release, then with a share for green."""
    directory = env.hosts.directory
    if not look(host, env).present:
        return
    host.run(commands.prepare(directory))
    state = look(host, env)
    assert (state.green, state.containers, state.lock) == (0, (), None)
    assert state.user.count(":") == 1 and state.clock > 1_700_000_000
    host.run(commands.take_lock(directory, "token", '{"who": "ann"}'))
    for share in (5, 100, 0):
        host.run(commands.switch(directory, "token", share))
        assert look(host, env).green == share
    assert look(host, env).lock.owner == {"who": "ann"}
    host.run(commands.release_lock(directory, "token"))
    assert look(host, env).lock is None


def a_lock_is_held_by_one(host: Host, env: Environment) -> None:
    """Whoever comes second is told who has it, and changes nothing."""
    directory = env.hosts.directory
    host.run(commands.prepare(directory))
    assert host.run(commands.take_lock(directory, "token", '{"who": "ann"}')) == ""
    assert host.run(commands.take_lock(directory, "token", '{"who": "ann"}')) == ""
    held = host.run(commands.take_lock(directory, "other", '{"who": "bob"}'))
    assert held.split()[0] == "held" and '{"who": "ann"}' in held
    over = host.run(commands.take_lock(directory, "other", '{"who": "bob"}', '{"who": "ann"}'))
    assert over.split()[0] == "over"
    with pytest.raises(LockLost):
        host.run(commands.switch(directory, "token", 0))
    assert look(host, env).green == 100


def a_wrong_password_is_told(host: Host, env: Environment) -> None:
    """By the registry's name; a right one is forgotten."""
    if not env.registry.password.get_secret_value():
        pytest.skip("this registry asks for no password")
    pull(host, env)
    host.run(script('docker rmi "$1" >/dev/null', env.proxy.image))
    with pytest.raises(CommandFailed, match=registry_host(env.registry.image)):
        pull(host, env, "wrong")


def containers_are_told_by_their_folder(host: Host, env: Environment) -> None:
    """With their state, labels and age; others are left out."""
    ready(host, env)
    host.run(commands.start_watch(env, "token", look(host, env).user, 0, {}))
    watch = look(host, env).container(WATCH)
    assert watch.running and watch.restarts == 0 and watch.image == env.proxy.image
    assert watch.labels[commands.LABEL] == env.hosts.directory
    assert watch.created <= watch.started
    host.run(commands.remove(env.hosts.directory, "token", WATCH, "never-there"))
    assert look(host, env).containers == ()


def a_colour_is_set_aside_and_put_back(host: Host, env: Environment) -> None:
    """Stopped under another name, then running under its own."""
    directory = env.hosts.directory
    ready(host, env)
    for name in ("bikecast-blue", "bikecast-refresher-blue"):
        start(host, env, name)
    host.run(commands.kill(directory, "token", "bikecast-refresher-blue"))
    host.run(commands.kill(directory, "token", "bikecast-refresher-blue", "never-there"))
    first = look(host, env).service("blue")
    host.run(commands.put_back(directory, "token", "blue", True))
    assert look(host, env).service("blue").created == first.created
    host.run(commands.set_aside(directory, "token", "blue"))
    assert look(host, env).service("blue") is None
    assert look(host, env).container("bikecast-blue-former").status == "exited"
    start(host, env, "bikecast-blue")
    host.run(commands.put_back(directory, "token", "blue", True))
    state = look(host, env)
    assert state.service("blue").running and state.service("blue").created == first.created
    assert state.refresher("blue").status == "exited" and len(state.containers) == 2
    host.run(commands.set_aside(directory, "token", "blue"))
    host.run(commands.drop_former(directory, "token"))
    assert look(host, env).containers == ()


def a_container_that_ends_is_not_waited_for(host: Host, env: Environment) -> None:
    """And one that was never there neither."""
    ready(host, env)
    start(host, env, "bikecast-blue")
    host.run(commands.holding(env.hosts.directory, "token", "docker", "kill", "bikecast-blue"))
    said = host.run(commands.wait_healthy(env.hosts.directory, "blue", 30))
    assert said.startswith("it does not run: exited, restarted 0 times")
    assert "healthy\n" not in host.run(commands.wait_healthy(env.hosts.directory, "green", 30))


CONTRACT = (
    words_reach_the_program_as_they_are,
    an_exit_code_is_an_error,
    a_time_limit_is_an_error_of_its_own,
    a_host_tells_how_it_stands,
    a_lock_is_held_by_one,
    a_wrong_password_is_told,
    containers_are_told_by_their_folder,
    a_colour_is_set_aside_and_put_back,
    a_container_that_ends_is_not_waited_for,
)
