"""A host over SSH: known by its key, and given limits by which it must answer."""

import base64
import hashlib
import io
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bikecast.errors import BikecastError, HostGone, InputError, Refused
from bikecast.ops.commands import KILL_AFTER, Command
from bikecast.ops.environment import Address, Hosts
from bikecast.ops.host import NO_CODE, in_time, printed

POLL = 0.004  # seconds between looks at a channel


class SshHost:
    """A host by its address, with the key and the known host keys of its environment."""

    def __init__(self, address: Address, settings: Hosts) -> None:
        self.name = address.host if address.port == 22 else f"{address.host}:{address.port}"
        self._address = address
        self._settings = settings
        self._connection: Any = None
        self._opening = threading.Lock()

    def _open(self) -> Any:
        with self._opening:
            if self._connection is None or not self._connection.is_connected:
                self._connection = connect(self._address, self._settings)
            return self._connection

    def run(self, command: Command) -> str:
        """See :class:`bikecast.ops.host.Host`."""
        seconds = self._settings.command_timeout
        limit = command.limit(seconds)
        began = time.monotonic()
        with self._reaching():
            channel = self._open().create_session()
            try:
                channel.settimeout(limit)
                # The host itself ends what we no longer wait for.
                _begin(channel, command.limited(seconds), self._settings.connect_timeout)
                if command.stdin:
                    channel.sendall(command.stdin.encode())
                channel.shutdown_write()
                code, out, said = _finish(channel, limit + 2 * KILL_AFTER)
            finally:
                channel.close()
            in_time(self.name, command, seconds, code, time.monotonic() - began)
            if code == NO_CODE:
                raise EOFError("the connection was closed")
        return printed(self.name, command, code, out, said)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        from paramiko import SSHException

        try:
            yield
        except BikecastError:
            raise
        except (SSHException, OSError, EOFError) as error:
            self._connection = None
            why = str(error) or type(error).__name__
            raise HostGone(
                f"{self.name} does not answer: {why}", hint="see that it is up and reachable"
            ) from error

    @contextmanager
    def tunnel(self, port: int) -> Iterator[int]:
        """See :class:`bikecast.ops.host.Host`."""
        from invoke.exceptions import ThreadException

        with self._reaching():
            connection = self._open()
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                local = free.getsockname()[1]
            try:
                with connection.forward_local(
                    local, remote_port=port, remote_host="127.0.0.1", local_host="127.0.0.1"
                ):
                    _listening(local)
                    yield local
            except ThreadException as error:
                raise Refused(
                    f"{self.name}: nothing answers on its port {port}",
                    hint="see with `inv logs --of proxy`; SSH must allow TCP forwarding",
                ) from error

    def close(self) -> None:
        """See :class:`bikecast.ops.host.Host`."""
        if self._connection is not None:
            self._connection.close()


def _listening(port: int) -> None:
    """Fabric opens the local end in a thread of its own."""
    until = time.monotonic() + 5
    with socket.socket() as asking:
        while asking.connect_ex(("127.0.0.1", port)):
            if time.monotonic() > until:
                raise TimeoutError("no tunnel could be opened")
            time.sleep(POLL)


def _begin(channel: Any, text: str, within: float) -> None:
    """Have a command started; for the host's word on that paramiko itself waits without end."""
    until = time.monotonic() + within
    ending = threading.Timer(within, channel.close)
    ending.daemon = True
    ending.start()
    try:
        channel.exec_command(text)  # nosec B601  # of words that Command.text has quoted
    except Exception as error:
        if time.monotonic() >= until:
            raise TimeoutError(f"it starts no command within {within:.0f} s") from error
        raise
    finally:
        ending.cancel()


def _finish(channel: Any, limit: float) -> tuple[int, str, str]:
    """Read all that a command prints until it ends: its exit code, stdout, stderr."""
    out, said = bytearray(), bytearray()
    until = time.monotonic() + limit
    while True:
        # Asked first: what is read after the end was seen is all there is.
        ended = channel.closed or (channel.exit_status_ready() and channel.eof_received)
        while channel.recv_ready():
            out += channel.recv(1 << 16)
        while channel.recv_stderr_ready():
            said += channel.recv_stderr(1 << 16)
        if ended:
            break
        if time.monotonic() > until:
            raise TimeoutError(f"no end of a command within {limit:.0f} s")
        time.sleep(POLL)
    code: int = channel.recv_exit_status()
    return code, out.decode(errors="replace"), said.decode(errors="replace")


def connect(address: Address, settings: Hosts) -> Any:
    """An open Fabric connection.

    :raises InputError: for a host key that is not known or another one, a key that is refused.
    """
    from fabric import Config, Connection
    from paramiko import AuthenticationException, BadHostKeyException

    # What matters of its messages is in our own errors.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    connection = Connection(
        address.host,
        user=address.user,
        port=address.port,
        config=Config(overrides={"load_ssh_configs": False}),
        connect_timeout=settings.connect_timeout,
        connect_kwargs={
            "pkey": private_key(settings.key.get_secret_value()),
            "allow_agent": False,
            "look_for_keys": False,
            "banner_timeout": settings.connect_timeout,
            "auth_timeout": settings.connect_timeout,
            "channel_timeout": settings.connect_timeout,
        },
    )
    _know(connection.client, settings.known_hosts)
    try:
        connection.open()
    except socket.gaierror as error:
        raise InputError(
            f"unknown host {address.host}: {error.strerror}", hint="mend it in hosts.addresses"
        ) from error
    except BadHostKeyException as error:
        raise InputError(
            f"{address.host} shows another host key than the known one "
            f"({fingerprint(error.key)} instead of {fingerprint(error.expected_key)})",
            hint="find out why before you change hosts.known_hosts",
        ) from error
    except AuthenticationException as error:
        raise InputError(
            f"{address} refuses the key of hosts.key: {error}",
            hint="add its public half to ~/.ssh/authorized_keys there",
        ) from error
    connection.transport.set_keepalive(5)
    return connection


def _know(client: Any, known_hosts: str) -> None:
    """Accept the host keys of a known_hosts text and no others."""
    from paramiko import MissingHostKeyPolicy
    from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

    class Refuse(MissingHostKeyPolicy):
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            name, _, port = hostname.strip("[").partition("]:")
            raise InputError(
                f"the host key of {hostname} is not known; it shows "
                f"{key.get_name()} {fingerprint(key)}",
                hint="if that is right, add it to hosts.known_hosts: ssh-keyscan "
                + (f"-p {port} {name}" if port else name),
            )

    keys = client.get_host_keys()
    for line in known_hosts.splitlines():
        # Certificate authorities and revocations are not understood: their hosts stay unknown.
        if not line.strip() or line.lstrip().startswith(("#", "@")):
            continue
        try:
            entry = HostKeyEntry.from_line(line)
        except InvalidHostKey as error:
            raise InputError(
                "hosts.known_hosts holds a line that is none", hint="copy it again"
            ) from error
        if entry:
            for name in entry.hostnames:
                keys.add(name, entry.key.get_name(), entry.key)
    client.set_missing_host_key_policy(Refuse())


def fingerprint(key: Any) -> str:
    """As `ssh-keygen -l` shows it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def private_key(text: str) -> Any:
    """A private key without a passphrase, of any kind that SSH uses now.

    :raises InputError: for what is none.
    """
    from paramiko import ECDSAKey, Ed25519Key, PasswordRequiredException, RSAKey, SSHException

    for kind in (Ed25519Key, ECDSAKey, RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text.strip() + "\n"))
        except PasswordRequiredException as error:
            raise InputError(
                "hosts.key has a passphrase", hint="give it decrypted, as by {command = …}"
            ) from error
        except (SSHException, ValueError):
            continue
    raise InputError("hosts.key is no private key", hint="give the key itself, not its path")
