"""A host over SSH, as far as no host is needed."""

import socket
import threading
import time
from types import SimpleNamespace

import pytest
from local_host import environment
from paramiko import SSHException

from bikecast.errors import BikecastError, HostGone, InputError
from bikecast.ops import ssh
from bikecast.ops.commands import Command
from bikecast.ops.ssh import SshHost, _begin, private_key


def test_a_host_that_starts_no_command_is_not_waited_for():
    """paramiko waits without end where sshd stops between the channel and the command."""
    channel = Silent()
    with pytest.raises(TimeoutError, match="it starts no command within 0 s"):
        _begin(channel, "true", 0.05)
    with pytest.raises(OSError, match="broken"):
        _begin(Broken(), "true", 5)


@pytest.mark.parametrize(
    ("after", "says"),
    [(1.0, "one: `true` did not end within 1 s"), (0.0, "one does not answer: the connection was")],
)
def test_a_command_that_had_to_be_killed_is_told_from_a_lost_connection(after, says):
    """Both end without an exit code; one of them when its time was up."""
    env = environment()
    host = SshHost(env.hosts.addresses[0], env.hosts)
    host._open = lambda: SimpleNamespace(create_session=lambda: Killed(after))
    with pytest.raises(HostGone, match=says):
        host.run(Command(("true",), timeout=1))


class Killed:
    """A channel that ends without an exit code, after some seconds."""

    closed = True

    def __init__(self, after):
        self.after = after

    def exec_command(self, text):
        """Take a while."""
        time.sleep(self.after)

    def recv_ready(self):
        """It printed nothing."""

    def recv_exit_status(self):
        """As paramiko says that there is none."""
        return -1

    settimeout = shutdown_write = close = lambda *words: None
    recv_stderr_ready = recv_ready


class Silent:
    """A channel whose other end says nothing; paramiko's way to tell that it was closed."""

    def __init__(self):
        self.closed = threading.Event()

    def exec_command(self, text):
        """Wait for ever."""
        self.closed.wait()
        raise SSHException("Channel closed.")

    def close(self):
        """Wake who waits."""
        self.closed.set()


class Broken(Silent):
    """A channel that is refused."""

    def exec_command(self, text):
        """Fail at once."""
        raise OSError("broken")


def test_a_host_whose_name_is_unknown_is_bad_input(monkeypatch):
    """Named with the key that it stands in."""

    def unknown(*words, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(ssh, "private_key", lambda text: None)
    env = environment(("deploy@one", "deploy@nowhere.invalid"))
    host = SshHost(env.hosts.addresses[0], env.hosts)
    with pytest.raises(InputError, match="^unknown host nowhere.invalid: Name.*hosts.addresses$"):
        host.run(Command(("true",)))


# pragma: allowlist nextline secret: a heading without a key
@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"])
def test_what_is_no_private_key_is_refused(text):
    """Without showing it."""
    with pytest.raises(BikecastError, match="hosts.key is no private key"):
        private_key(text)
