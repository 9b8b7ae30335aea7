"""How requests find a colour: the proxy's configuration, buckets, and what its log tells.

The proxy asks on every request whether a file of the request's bucket exists under
``traffic/green``. That is a symbolic link to a set of such files, so replacing the link moves the
traffic, all of it or a share, in one step and without touching the proxy.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

BLUE, GREEN = "blue", "green"
COLOURS = (BLUE, GREEN)
BUCKETS = 100

# Fewer answers than these say nothing about a share of errors or a 95th percentile.
ENOUGH_REQUESTS = 50
# Three failures are no accident even where few asked.
CERTAIN_ERRORS = 3
# Seconds. Below this a ratio of latencies is noise: 2 ms against 1 ms hurts nobody.
LATENCY_FLOOR = 0.02


def other(colour: str) -> str:
    """The colour that is not this one."""
    return GREEN if colour == BLUE else BLUE


def green_share(colour: str, percent: int) -> int:
    """The percentage of green where a colour is to have ``percent``.

    >>> green_share("blue", 5)
    95
    """
    return percent if colour == GREEN else BUCKETS - percent


CONFIGURATION = """\
worker_processes auto;
pid /tmp/nginx.pid;
error_log /log/error.log warn;
events { worker_connections 4096; }
http {
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server_tokens off;
    client_max_body_size 1m;
BALANCERS

    split_clients $request_id $bucket {
BUCKETS
        * 99;
    }
    # A smoke test asks the host itself for a colour; nobody else can.
    map "$inside $http_x_bikecast_colour" $asked {
        "1 blue" blue;
        "1 green" green;
        default "";
    }
    # What watches the service runs on the host itself: both who is connected and, where that is a
    # balancer, whom it names.
    map "$realip_remote_addr $remote_addr" $inside {
        "127.0.0.1 127.0.0.1" 1;
        "::1 ::1" 1;
        default "";
    }
    map $asked $counted {
        "" 1;
        default 0;
    }
    # A rider's own name for a request is kept where the service would keep it; buckets never
    # follow from it.
    map $http_x_request_id $named {
        "~^[A-Za-z0-9._:-]{1,64}$" $http_x_request_id;
        default $request_id;
    }
    log_format traffic '$msec $colour $status $request_time $named';
    access_log /log/access.log traffic if=$counted;

    upstream blue { server unix:/sockets/blue/api.sock; keepalive 32; }
    upstream green { server unix:/sockets/green/api.sock; keepalive 32; }

    server {
        listen PORT reuseport;
        listen [::]:PORT reuseport;
TLS
        set $colour blue;
        if (-f /traffic/green/$bucket) { set $colour green; }
        if ($asked = blue) { set $colour blue; }
        if ($asked = green) { set $colour green; }

        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        # In the place of whatever came: the service believes the proxy, and counts by address.
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Request-Id $named;
        proxy_read_timeout 30s;
        add_header X-Bikecast-Colour $colour always;

        # While this proxy is being replaced every answer announces that its connection ends.
        error_page 418 = @leaving;
        location / {
            if (-f /traffic/leaving/INSTANCE) { return 418; }
            proxy_pass http://$colour;
        }
        # For the host itself; no rider's request, so none that a release is judged by.
        location = /metrics {
            access_log off;
            if ($inside = "") { return 404; }
            proxy_pass http://$colour;
        }
        location @leaving {
            keepalive_timeout 0;
            proxy_pass http://$colour;
        }
    }
}
"""
TLS = """\
        ssl_certificate /tls/certificate.pem;
        ssl_certificate_key /tls/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:tls:10m;
"""


# From the end of the header on, the first address that is none of these is the rider's: whatever
# stands before it he may have written himself.
BALANCERS = """
    real_ip_header X-Forwarded-For;
    real_ip_recursive on;
"""


def configuration(port: int, tls: bool, instance: str, balancers: Iterable[str] = ()) -> str:
    """nginx's configuration.

    :param port: where it listens on every address of the host.
    :param instance: the name by which this proxy is told to leave.
    :param balancers: addresses and networks of those in front, who are believed whom they pass on.
    """
    buckets = "\n".join(f"        1% {n};" for n in range(BUCKETS - 1))
    trusted = "".join(f"    set_real_ip_from {place};\n" for place in balancers)
    return (
        CONFIGURATION.replace("BUCKETS", buckets)
        .replace("BALANCERS\n", BALANCERS + trusted if trusted else "")
        .replace("PORT reuseport", f"{port} {'ssl ' if tls else ''}reuseport")
        .replace("TLS\n", TLS if tls else "")
        .replace("INSTANCE", instance)
    )


@dataclass
class Seen:
    """What a colour answered in a stretch of time.

    :param latencies: answers by their duration, in whole milliseconds.
    """

    requests: int = 0
    errors: int = 0
    latencies: Counter[int] = field(default_factory=Counter)

    @property
    def error_share(self) -> float:
        """Share of answers that were the service's fault (5xx), 0 where nobody asked."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def p95(self) -> float:
        """The latency, in seconds, that 95 of 100 answers did not exceed; 0 where nobody asked."""
        left = 0.95 * self.requests
        for milliseconds, count in sorted(self.latencies.items()):
            left -= count
            if left <= 0:
                return milliseconds / 1000
        return 0.0

    def add(self, more: "Seen") -> None:
        """Count what was seen elsewhere or later."""
        self.requests += more.requests
        self.errors += more.errors
        self.latencies.update(more.latencies)


# A proxy that an older release started names no request.
_LINE = re.compile(r"[\d.]+ (blue|green) (\d{3}) (\d+)\.(\d{3})( \S+)?")


def read_log(lines: Iterable[str]) -> dict[str, Seen]:
    """What the proxy's log says of each colour; lines of another form are passed over.

    >>> read_log(["17.250 green 200 0.004 a", "17.310 green 502 0.000 b"])["green"].error_share
    0.5
    """
    seen = {colour: Seen() for colour in COLOURS}
    for line in lines:
        if found := _LINE.fullmatch(line.strip()):
            colour, status, seconds, thousandths = found.groups()[:4]
            seen[colour].add(
                Seen(1, int(status >= "500"), Counter({int(seconds) * 1000 + int(thousandths): 1}))
            )
    return seen


class Verdict(Enum):
    """What the figures of a new release say."""

    GO_ON = "go on"
    GO_BACK = "go back"
    TOO_LITTLE = "too little traffic"


@dataclass(frozen=True)
class Judgement:
    """A verdict and the figures behind it, in words."""

    verdict: Verdict
    why: str


def judge(new: Seen, old: Seen, max_error_share: float, max_latency_ratio: float) -> Judgement:
    """Hold a new colour against the old one.

    The new one's share of errors may exceed the old one's by ``max_error_share``: where what lies
    behind both is down, the new release is not to blame. Latency is compared at the 95th
    percentile, and only where both had enough requests.
    """
    share = new.error_share - old.error_share
    figures = (
        f"{new.errors} of {new.requests} answers failed ({new.error_share:.1%}, "
        f"before: {old.error_share:.1%})"
    )
    enough = new.requests >= ENOUGH_REQUESTS
    if share > max_error_share and (enough or new.errors >= CERTAIN_ERRORS):
        return Judgement(Verdict.GO_BACK, f"{figures}; allowed are {max_error_share:.1%} more")
    if not enough:
        return Judgement(Verdict.TOO_LITTLE, f"{figures}; {ENOUGH_REQUESTS} answers are needed")
    if old.requests < ENOUGH_REQUESTS:
        return Judgement(Verdict.GO_ON, figures)
    ratio = max(new.p95, LATENCY_FLOOR) / max(old.p95, LATENCY_FLOOR)
    latency = f"95 % within {new.p95 * 1000:.0f} ms (before: {old.p95 * 1000:.0f} ms)"
    if ratio > max_latency_ratio:
        return Judgement(
            Verdict.GO_BACK, f"{latency}, {ratio:.1f} times as long; allowed is {max_latency_ratio}"
        )
    return Judgement(Verdict.GO_ON, f"{figures}, {latency}")
