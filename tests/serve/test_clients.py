"""Whose address a request counts for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikecast.errors import InputError
from bikecast.serve.clients import Clients

PROXIES = ("10.0.0.0/8", "2001:db8:ffff::/48", "unix")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),  # nobody trusts it
        ("10.1.2.3", "198.51.100.7", "198.51.100.7"),
        ("::ffff:10.1.2.3", "198.51.100.7", "198.51.100.7"),
        ("2001:db8:ffff::1", "198.51.100.7", "198.51.100.7"),
        ("10.1.2.3", "192.0.2.9, 198.51.100.7", "198.51.100.7"),  # what came before is made up
        ("10.1.2.3", "192.0.2.9, somebody", "10.1.2.3"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", ",", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.7" + " " * 100, "198.51.100.7"),
        ("10.1.2.3", "1" * 5000, "10.1.2.3"),
        ("", "198.51.100.7", "198.51.100.7"),
        ("", "", "unix"),
        ("2001:db8::1", "", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", "", "2001:db8::/64"),
        ("", "::ffff:198.51.100.7", "198.51.100.7"),
    ],
)
def test_the_word_of_a_trusted_proxy_is_taken_and_no_other(
    peer: str, forwarded: str, address: str
) -> None:
    """The last address of the header, which the proxy itself wrote."""
    assert Clients(PROXIES, 1).address(peer, forwarded) == address


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("192.0.2.9, 198.51.100.7, 10.0.0.9", "198.51.100.7"),
        ("198.51.100.7, 10.0.0.9", "198.51.100.7"),
        ("10.0.0.9", "10.1.2.3"),  # it came past the first proxy
    ],
)
def test_with_two_proxies_in_a_row_it_is_the_last_but_one(forwarded: str, address: str) -> None:
    """Where there are fewer, none is believed."""
    assert Clients(PROXIES, 2).address("10.1.2.3", forwarded) == address


def test_without_trust_a_socket_is_one_client() -> None:
    """Whatever it says."""
    assert Clients((), 1).address("", "198.51.100.7") == "unix"


@given(st.text(max_size=50), st.text(max_size=200), st.integers(1, 3))
def test_whatever_is_sent_there_is_an_address(peer: str, forwarded: str, hops: int) -> None:
    """And without trust, the header changes nothing."""
    assert Clients(PROXIES, hops).address(peer, forwarded)
    never = Clients((), hops)
    assert never.address(peer, forwarded) == never.address(peer, "")


@pytest.mark.parametrize(
    ("trusted", "hops", "says"),
    [
        (("10.0.0.1/8",), 1, "BIKECAST_TRUSTED_PROXIES: 10.0.0.1/8 has host bits set"),
        (("nginx",), 1, "BIKECAST_TRUSTED_PROXIES: 'nginx'"),
        ((), 0, "BIKECAST_TRUSTED_HOPS is 0"),
    ],
)
def test_what_cannot_be_trusted_is_refused(trusted: tuple[str, ...], hops: int, says: str) -> None:
    """Naming the setting."""
    with pytest.raises(InputError, match=says):
        Clients(trusted, hops)
