"""How requests find a colour, and what the proxy's log says of a release."""

import math
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikecast.ops.traffic import (
    BUCKETS,
    ENOUGH_REQUESTS,
    Seen,
    Verdict,
    configuration,
    green_share,
    judge,
    other,
    read_log,
)


def test_every_request_falls_into_one_of_a_hundred_buckets():
    """Each of one percent, named by its number; the last one takes the rest."""
    text = configuration(8000, False, "i7")
    buckets = re.findall(r"^ +(1%|\*) (\d+);$", text, re.MULTILINE)
    assert [int(n) for _, n in buckets] == list(range(BUCKETS))
    assert [share for share, _ in buckets] == ["1%"] * 99 + ["*"]


def test_the_configuration_asks_the_link_on_every_request():
    """And, where it is to leave, for a file of its own."""
    text = configuration(8000, False, "i7")
    assert "if (-f /traffic/green/$bucket) { set $colour green; }" in text
    assert "if (-f /traffic/leaving/i7) { return 418; }" in text
    assert "split_clients $request_id $bucket" in text  # a rider's own name would choose his colour
    assert "listen 8000 reuseport;" in text and "listen [::]:8000 reuseport;" in text
    assert "log_format traffic '$msec $colour $status $request_time $named';" in text
    assert "user " not in text and "ssl" not in text
    assert text.count("{") == text.count("}")


def test_nobody_says_who_asks_but_the_proxy():
    """What came as a client's address is replaced, and metrics are for the host itself."""
    text = configuration(8000, False, "i7")
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text
    assert "proxy_add_x_forwarded_for" not in text
    metrics = text[text.index("location = /metrics") :].partition("@leaving")[0]
    assert 'if ($inside = "") { return 404; }' in metrics and "access_log off;" in metrics


def test_a_balancer_is_believed_where_it_is_listed():
    """Several in a row as well; without one nobody's header is looked at."""
    alone = configuration(8000, False, "i7")
    assert "real_ip" not in alone
    text = configuration(8000, False, "i7", ["10.0.0.1/32", "2001:db8::/64"])
    assert re.findall("set_real_ip_from (.*);", text) == ["10.0.0.1/32", "2001:db8::/64"]
    assert "real_ip_header X-Forwarded-For;" in text and "real_ip_recursive on;" in text
    assert "BALANCERS" not in alone + text


def test_with_tls_it_listens_with_a_certificate():
    """On the same port, old versions of the protocol refused."""
    text = configuration(8443, True, "i7")
    assert "listen 8443 ssl reuseport;" in text and "listen [::]:8443 ssl reuseport;" in text
    assert "ssl_certificate /tls/certificate.pem;" in text
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in text
    for word in ("BUCKETS", "PORT", "INSTANCE", "TLS\n"):
        assert word not in text


@pytest.mark.parametrize(
    ("colour", "percent", "green"),
    [("green", 5, 5), ("blue", 5, 95), ("green", 100, 100), ("blue", 100, 0), ("green", 0, 0)],
)
def test_a_share_of_a_colour_is_one_of_green(colour, percent, green):
    """What the other colour gets is the rest."""
    assert green_share(colour, percent) == green
    assert green_share(other(colour), BUCKETS - percent) == green


NAME = st.sampled_from(["", " 0f", " my-own:name"])  # a proxy of an older release writes none
LINE = st.tuples(
    st.sampled_from(["blue", "green"]), st.integers(100, 599), st.integers(0, 100_000), NAME
)


@given(st.lists(LINE), st.lists(st.text(max_size=20)))
def test_a_log_is_counted_by_colour(lines, noise):
    """Every answer once; what is no answer is passed over."""
    text = [f"17.250 {c} {status} {ms // 1000}.{ms % 1000:03}{n}" for c, status, ms, n in lines]
    noise = [n for n in noise if not re.search(r"(blue|green)", n)]
    seen = read_log(noise + text)
    for colour in ("blue", "green"):
        own = [(status, ms) for c, status, ms, _ in lines if c == colour]
        assert seen[colour].requests == len(own)
        assert seen[colour].errors == sum(status >= 500 for status, _ in own)
        assert seen[colour].latencies == Counter(ms for _, ms in own)


@pytest.mark.parametrize(
    "line",
    [
        *("", "1 red 200 0.001", "1 blue 200", "1 blue 200 0.001 a b", "1 blue 2000 0.001"),
        *("now 17.5", "blue", "blue 200 0.001", "x blue 200 0.001"),
    ],
)
def test_a_line_of_another_form_counts_for_nothing(line):
    """As the ones of the proxy's start."""
    assert all(seen == Seen() for seen in read_log([line]).values())


@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=300))
def test_the_95th_percentile_is_the_smallest_that_holds(latencies):
    """At least 95 of 100 answers took no longer, and of any shorter time that is not so."""
    seen = Seen(len(latencies), 0, Counter(latencies))
    found = round(seen.p95 * 1000)
    assert found in latencies
    assert found == sorted(latencies)[math.ceil(0.95 * len(latencies)) - 1]


def test_where_nobody_asked_there_is_nothing_to_tell():
    """No share of errors, no percentile."""
    assert Seen().p95 == 0.0 and Seen().error_share == 0.0


@given(st.lists(LINE), st.lists(LINE))
def test_what_is_seen_on_two_hosts_adds_up(first, second):
    """As if one log had held both."""
    one, two, both = (
        read_log(f"{c} {s} {ms // 1000}.{ms % 1000:03}" for c, s, ms, _ in lines)
        for lines in (first, second, first + second)
    )
    for colour in ("blue", "green"):
        one[colour].add(two[colour])
        assert one[colour] == both[colour]


def seen(requests, errors=0, milliseconds=5):
    """What a colour answered, all in the same time."""
    return Seen(requests, errors, Counter({milliseconds: requests}))


@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        (seen(100), seen(100), Verdict.GO_ON),
        (seen(100, 1), seen(100), Verdict.GO_ON),
        (seen(100, 2), seen(100), Verdict.GO_BACK),
        (seen(100, 2), seen(100, 1), Verdict.GO_ON),
        (seen(100, 50), seen(100, 50), Verdict.GO_ON),
        (seen(100, 2), seen(0), Verdict.GO_BACK),
        (seen(49), seen(100), Verdict.TOO_LITTLE),
        (seen(0), seen(0), Verdict.TOO_LITTLE),
        (seen(2, 2), seen(100), Verdict.TOO_LITTLE),
        (seen(3, 3), seen(100), Verdict.GO_BACK),
        (seen(50), seen(0), Verdict.GO_ON),
        (seen(100, 0, 41), seen(100, 0, 20), Verdict.GO_BACK),
        (seen(100, 0, 40), seen(100, 0, 20), Verdict.GO_ON),
        (seen(100, 0, 19), seen(100, 0, 1), Verdict.GO_ON),
        (seen(100, 0, 41), seen(100, 0, 1), Verdict.GO_BACK),
        (seen(100, 0, 900), seen(49, 0, 5), Verdict.GO_ON),
        (seen(49, 0, 900), seen(100, 0, 5), Verdict.TOO_LITTLE),
    ],
)
def test_a_release_is_held_against_the_one_before(new, old, verdict):
    """1 % more errors and twice the latency are allowed; few requests tell nothing."""
    found = judge(new, old, 0.01, 2.0)
    assert found.verdict is verdict and found.why


COUNT = st.integers(0, 500)


@given(COUNT, COUNT, COUNT, COUNT)
def test_a_verdict_never_gets_better_by_more_errors(requests, errors, old_requests, more):
    """And it goes on only on enough requests."""
    errors = min(errors, requests)
    old = seen(old_requests)
    found = judge(seen(requests, errors), old, 0.01, 2.0)
    worse = judge(seen(requests, min(errors + more, requests)), old, 0.01, 2.0)
    if found.verdict is Verdict.GO_BACK:
        assert worse.verdict is Verdict.GO_BACK
    if found.verdict is Verdict.GO_ON:
        assert requests >= ENOUGH_REQUESTS


def test_a_verdict_shows_its_figures():
    """So that a person can follow it."""
    assert judge(seen(200, 7), seen(100, 1), 0.01, 2.0).why == (
        "7 of 200 answers failed (3.5%, before: 1.0%); allowed are 1.0% more"
    )
    assert judge(seen(100, 0, 90), seen(100, 0, 30), 0.01, 2.0).why == (
        "95 % within 90 ms (before: 30 ms), 3.0 times as long; allowed is 2.0"
    )
