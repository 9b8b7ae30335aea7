"""Who asks, by address: that of the connection, or what a trusted proxy says of it."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from bikecast.errors import InputError

UNIX: Final = "unix"
"""Whoever may open the unix socket that the service listens on, and the address it asks from."""
PREFIX: Final = 64
"""Bits of an IPv6 address that tell clients apart: each usually has all addresses behind them."""
_LONGEST: Final = 45  # letters of an address
_REMEMBERED: Final = 4096


class Clients:
    """Finds the address behind a request.

    :param trusted: addresses and networks of proxies, and ``unix``.
    :param hops: proxies in a row; each appends the address it sees to ``X-Forwarded-For``.
    :raises InputError: for what is no network, or no number of hops.
    """

    def __init__(self, trusted: tuple[str, ...], hops: int) -> None:
        if hops < 1:
            raise InputError(
                f"BIKECAST_TRUSTED_HOPS is {hops}",
                hint="write the number of proxies, 1 or more; to trust none, "
                "leave BIKECAST_TRUSTED_PROXIES empty",
            )
        self._unix = UNIX in trusted
        self._networks = [_network(text) for text in trusted if text != UNIX]
        self._hops = hops
        self._trusts = lru_cache(_REMEMBERED)(self._is_trusted)

    def of(self, environ: Mapping[str, Any]) -> str:
        """The address behind a WSGI request."""
        return self.address(environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR", ""))

    def address(self, peer: str, forwarded: str) -> str:
        """The client's address, or what stands for it: a network, or ``unix``.

        The header is read from its end: what stands before the word of our own proxies is the
        client's to write.

        :param peer: address of the connection, empty for a unix socket.
        :param forwarded: what came as ``X-Forwarded-For``, empty for nothing.
        """
        if forwarded and self._trusts(peer):
            said = forwarded.rsplit(",", self._hops)[-self._hops :]
            if len(said) == self._hops and (found := told_apart(said[0].strip()[: _LONGEST + 1])):
                return found
        return told_apart(peer) or peer or UNIX

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return not peer and self._unix
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in network for network in self._networks)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise InputError(
            f"BIKECAST_TRUSTED_PROXIES: {error}",
            hint="write addresses, networks as in 10.0.0.0/8, and unix, with commas between",
        ) from error


@lru_cache(_REMEMBERED)
def told_apart(text: str) -> str | None:
    """By what a client is told from others, or None for what is no address.

    >>> told_apart("2001:db8::1:2"), told_apart("::ffff:192.0.2.1"), told_apart("nobody")
    ('2001:db8::/64', '192.0.2.1', None)
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address, PREFIX), strict=False))
