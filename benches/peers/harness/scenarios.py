"""What is measured: backends, connections and requests of each run."""

import fnmatch
from typing import NamedTuple

KIB = 1024
MIB = 1024 * KIB


class Scenario(NamedTuple):
    name: str
    what: str
    # For the program `backend`; None is a port that refuses connections.
    backends: list
    connections: int
    method: str = "GET"
    body: int = 0
    # A connection for each request.
    closes: bool = False
    # Clients come by HTTPS.
    is_https: bool = False
    # The proxy has this many cores, the rest of the machine those that are left, if any are.
    cores: int = 0
    # Bodies are long: what counts is MB/s.
    is_bulk: bool = False

    @property
    def is_plain(self):
        """Short GETs on kept connections, and every backend answers."""
        backends = [spec for spec in self.backends if spec and "hang" not in spec]
        is_simple = self.method == "GET" and not (self.closes or self.is_https or self.is_bulk)
        return is_simple and len(backends) == len(self.backends)


QUICK = "size=1024"
SLOW = "size=1024:delay=exp20"
MAIN = [
    Scenario("S1-16", "1 quick backend, 16 connections", [QUICK], 16),
    Scenario("S1-64", "1 quick backend, 64 connections", [QUICK], 64),
    Scenario("S2-16", "3 quick backends, 16 connections", [QUICK] * 3, 16),
    Scenario("S2-64", "3 quick backends, 64 connections", [QUICK] * 3, 64),
    Scenario("S2-tls", "3 quick https backends, 64 connections", [QUICK + ":tls"] * 3, 64),
    Scenario("S2-https", "3 quick backends, 64 connections by HTTPS", [QUICK] * 3, 64, is_https=True),
    Scenario(
        "S2-https-new",
        "the same, a connection with a full handshake for each request",
        [QUICK] * 3,
        64,
        closes=True,
        is_https=True,
    ),
    Scenario(
        "S3",
        "a quick 200, a 500, a 200 after 50 ms; 64 connections",
        [QUICK, "status=500:size=128", QUICK + ":delay=50"],
        64,
    ),
    Scenario(
        "S4", "a quick 200, one that hangs, one that refuses; 64 connections", [QUICK, "size=1024:hang", None], 64
    ),
    Scenario("S5", "8 backends, exponential delay, mean 20 ms; 32 connections", [SLOW] * 8, 32),
    Scenario("S5-4", "the same, 4 connections", [SLOW] * 8, 4),
    Scenario("S6", "1 backend, 10 MiB, 4 connections", [f"size={10 * MIB}"], 4, is_bulk=True),
    Scenario("S6-3", "3 backends, 10 MiB, 4 connections", [f"size={10 * MIB}"] * 3, 4, is_bulk=True),
    Scenario("S7", "3 backends, POST of 64 KiB, 16 connections", [QUICK] * 3, 16, method="POST", body=64 * KIB),
    Scenario("S8", "3 quick backends, a connection for each request, 16 at a time", [QUICK] * 3, 16, closes=True),
]
CORES = {1: "one core", 2: "two cores"}


def growth(letter, count, backends, connections, cores):
    what = f"{backends} quick backends, {connections} connections, proxy on {CORES[cores]}"
    return Scenario(f"G-{letter}{count}@{cores}", what, [QUICK] * backends, connections, cores=cores)


GROWTH = [
    scenario
    for cores in CORES
    for scenario in [
        *(growth("b", count, count, 64, cores) for count in (1, 2, 4, 8, 16, 32)),
        *(growth("c", count, 3, count, cores) for count in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)),
    ]
]


def chosen(patterns):
    """Those that a pattern names; the main ones without any."""
    if not patterns:
        return MAIN
    scenarios = [s for s in MAIN + GROWTH if any(fnmatch.fnmatch(s.name, pattern) for pattern in patterns)]
    for pattern in patterns:
        if not any(fnmatch.fnmatch(s.name, pattern) for s in scenarios):
            raise SystemExit(
                f"bench: no scenario is named {pattern}; there are: {' '.join(s.name for s in MAIN + GROWTH)}"
            )
    return scenarios
