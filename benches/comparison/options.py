"""The command line."""

import argparse
import os
from pathlib import Path

from .loads import LOADS

PROXIES = ("river", "nginx", "haproxy")
PEERS = ("nginx", "haproxy")
SMALL_LOAD = "small"


def parse(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="loads:\n" + "\n".join(f"  {load.name:12} {load.what}" for load in LOADS.values()))
    parser.add_argument("--load", action="append", choices=list(LOADS), metavar="NAME", dest="loads",
                        help="a load to measure, see below; may be repeated (default all; small with "
                             "--syscalls)")
    parser.add_argument("--rounds", type=at_least(1), default=5,
                        help="interleaved rounds (default 5; fewer say little)")
    parser.add_argument("--seconds", type=at_least(1), default=5, help="length of one measurement (default 5)")
    parser.add_argument("--connections", type=at_least(1), default=64,
                        help="connections of the loads that do not say how many (default 64)")
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1,
                        help="2: measure each proxy with one worker and with two, the two on both processors "
                             "(default 1)")
    parser.add_argument("--only", default=",".join(PROXIES), help="which proxies, by comma (default all three)")
    parser.add_argument("--river", type=Path, help="a River binary to measure, instead of building one")
    parser.add_argument("--proxy-cpu", type=int, default=0, help="processor of the proxies (default 0)")
    parser.add_argument("--load-cpu", type=int, default=1, help="processor of the load generator (default 1)")
    parser.add_argument("--origin-cpu", type=int,
                        help="processor of the origin (default that of the load generator; on that of the proxies the "
                             "generator has one to itself, and its latencies and requests a second say more)")
    parser.add_argument("--bare", action="store_true",
                        help="leave the X-Forwarded fields, which River always sets, out of the peers' work")
    parser.add_argument("--rate", type=at_least(1),
                        help="requests a second of the open-loop loads (default half of what the slowest peer carries)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure of every round there")
    parser.add_argument("--syscalls", action="store_true",
                        help="instead: count each system call per request in a short run under strace")
    parser.add_argument("--memory", action="store_true",
                        help="instead: resident size of a fresh process and memory per idle connection")
    parser.add_argument("--idle", type=at_least(1), default=2000,
                        help="idle connections to open with --memory (default 2000)")
    options = parser.parse_args()
    options.only = options.only.split(",")
    unknown = set(options.only) - set(PROXIES)
    if unknown:
        parser.error(f"no such proxy: {', '.join(sorted(unknown))}")
    if options.origin_cpu is None:
        options.origin_cpu = options.load_cpu
    allowed = os.sched_getaffinity(0)
    for cpu in (options.proxy_cpu, options.load_cpu, options.origin_cpu):
        if cpu not in allowed:
            parser.error(f"processor {cpu} is not open to this process; it may use {sorted(allowed)}")
    default = [SMALL_LOAD] if options.syscalls else LOADS
    options.loads = [LOADS[name] for name in dict.fromkeys(options.loads or default)]
    return options


def at_least(least: int):
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"at least {least}")
        return value
    return number
