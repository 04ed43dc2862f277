#!/usr/bin/env python3
"""CPU per request of River beside nginx and HAProxy, in one run on one machine.

One worker each, access logs off, keep-alive on both sides, the same forwarding fields, one small response from one
origin. The proxy has one processor to itself; the load generator and the origin share another. Rounds are
interleaved, so that what disturbs the machine disturbs all alike. CPU per request is what the kernel says
(`schedstat`) of every thread of every process of the proxy, over the requests that wrk counted.

Needs nginx, haproxy, wrk, taskset and setpriv (util-linux), and strace for --syscalls. Everything runs on loopback
and in a temporary directory, and is gone when the script ends.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BODY = "hello\n"
MANY = 1_000_000_000
PEERS = ("nginx", "haproxy")

NGINX_COMMON = """
daemon off;
worker_processes 1;
{user}
pid {dir}/{name}.pid;
error_log {dir}/{name}.log error;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests {many};
    keepalive_timeout 60s;
    client_body_temp_path {dir}/{name}-body;
    proxy_temp_path {dir}/{name}-proxy;
    fastcgi_temp_path {dir}/{name}-fastcgi;
    uwsgi_temp_path {dir}/{name}-uwsgi;
    scgi_temp_path {dir}/{name}-scgi;
    {body}
}}
"""

NGINX_ORIGIN = """
    server {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 "hello\\n"; }} }}
"""

NGINX_PROXY = """
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 128;
        keepalive_requests {many};
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Connection "";
            {fields}
        }}
    }}
"""

NGINX_FIELDS = """
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
"""

HAPROXY = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 3s
    timeout http-request 10s
    timeout http-keep-alive 60s
    http-reuse always
frontend front
    bind 127.0.0.1:{port}
    {fields}
    default_backend back
backend back
    server origin 127.0.0.1:{origin} pool-max-conn 128
"""

HAPROXY_FIELDS = """
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
"""

RIVER = """(
    system: (
        workers: 1,
        pid_file: "river.pid",
        upgrade_socket: "river.sock",
    ),
    services: {{
        "bench": (
            listeners: [(bind: "127.0.0.1:{port}")],
            connectors: (
                load_balance: (selection: RoundRobin),
                servers: [(addr: "127.0.0.1:{origin}")],
                pool: (max_idle: 128, idle_timeout: "60s", max_requests: {many}),
            ),
        ),
    }},
)
"""


class Failure(Exception):
    """What keeps the comparison from being made, as a sentence for the user."""


@dataclass
class Proxy:
    """A proxy under test, running."""

    name: str
    process: subprocess.Popen
    port: int

    def processes(self) -> list[int]:
        """The proxy's processes: the one started and those below it."""
        found = [self.process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found += [int(child) for child in children.read_text().split()]
        return found

    def cpu(self) -> int:
        """Nanoseconds that all its threads have spent on a processor."""
        total = 0
        for pid in self.processes():
            for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                total += int(stat.read_text().split()[0])
        return total


@dataclass
class Load:
    """What wrk said of one run."""

    requests: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


@dataclass
class Round:
    """One proxy in one round."""

    cpu: float  # microseconds a request
    load: Load


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        with tempfile.TemporaryDirectory(prefix="river-compare-") as directory, contextlib.ExitStack() as stack:
            os.chmod(directory, 0o755)
            compare(options, Path(directory), stack)
    except Failure as failure:
        print(f"compare: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=at_least(5), default=5, help="interleaved rounds, at least 5 (default 5)")
    parser.add_argument("--seconds", type=at_least(1), default=5, help="length of one measurement (default 5)")
    parser.add_argument("--connections", type=at_least(1), default=64, help="keep-alive connections (default 64)")
    parser.add_argument("--only", default="river,nginx,haproxy", help="which proxies, by comma (default all three)")
    parser.add_argument("--river", type=Path, help="a River binary to measure, instead of building one")
    parser.add_argument("--proxy-cpu", default="0", help="processor of the proxies (default 0)")
    parser.add_argument("--load-cpu", default="1", help="processor of the load generator and the origin (default 1)")
    parser.add_argument("--bare", action="store_true",
                        help="leave the X-Forwarded fields, which River always sets, out of the peers' work")
    parser.add_argument("--syscalls", action="store_true",
                        help="instead: count each system call per request in a short run under strace")
    options = parser.parse_args()
    options.only = options.only.split(",")
    unknown = set(options.only) - {"river", *PEERS}
    if unknown:
        parser.error(f"no such proxy: {', '.join(sorted(unknown))}")
    return options


def at_least(least: int):
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"at least {least}")
        return value
    return number


def compare(options: argparse.Namespace, directory: Path, stack: contextlib.ExitStack) -> None:
    tools = {"wrk", "taskset", "setpriv", "nginx"} | (set(options.only) & set(PEERS))
    if options.syscalls:
        tools.add("strace")
    missing = sorted(tool for tool in tools if not program(tool))
    if missing:
        raise Failure(f"not installed: {', '.join(missing)}")
    allowed = os.sched_getaffinity(0)
    for cpu in (options.proxy_cpu, options.load_cpu):
        if int(cpu) not in allowed:
            raise Failure(f"processor {cpu} is not open to this process; it may use {sorted(allowed)}")

    river = river_binary(options) if "river" in options.only else None
    print_machine(options, river)
    origin = start_origin(options, directory, stack)
    proxies = [start_proxy(name, options, directory, stack, origin, river) for name in options.only]
    for proxy in proxies:
        check_answer(proxy)
        wrk(options, proxy, 1)
    if options.syscalls:
        for proxy in proxies:
            print_syscalls(proxy, count_syscalls(options, directory, stack, proxy))
        return
    rounds = measure(options, proxies)
    print_rounds(rounds)
    print_ratio(rounds)


def program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def river_binary(options: argparse.Namespace) -> Path:
    if options.river:
        return options.river.resolve()
    if subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "river"], cwd=ROOT).returncode:
        raise Failure("River does not build")
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release" / "river"


# Starting and stopping


def start_origin(options: argparse.Namespace, directory: Path, stack: contextlib.ExitStack) -> int:
    port = free_port()
    path = nginx_config(directory, "origin", NGINX_ORIGIN.format(port=port))
    start("the origin", options.load_cpu, [program("nginx"), "-e", f"{directory}/origin.log", "-c", path],
          directory, stack, port)
    return port


def start_proxy(name: str, options: argparse.Namespace, directory: Path, stack: contextlib.ExitStack, origin: int,
                river: Path | None) -> Proxy:
    port = free_port()
    if name == "nginx":
        fields = "" if options.bare else NGINX_FIELDS
        body = NGINX_PROXY.format(port=port, origin=origin, many=MANY, fields=fields)
        command = [program("nginx"), "-e", f"{directory}/nginx.log", "-c", nginx_config(directory, "nginx", body)]
    elif name == "haproxy":
        path = directory / "haproxy.cfg"
        path.write_text(HAPROXY.format(port=port, origin=origin, fields="" if options.bare else HAPROXY_FIELDS))
        command = [program("haproxy"), "-db", "-f", path]
    else:
        path = directory / "river.ron"
        path.write_text(RIVER.format(port=port, origin=origin, many=MANY))
        command = [river, "--config", path]
    return Proxy(name, start(name, options.proxy_cpu, command, directory, stack, port), port)


def nginx_config(directory: Path, name: str, body: str) -> Path:
    path = directory / f"{name}.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(NGINX_COMMON.format(dir=directory, name=name, body=body, many=MANY, user=user))
    return path


def start(name: str, cpu: str, command: list, directory: Path, stack: contextlib.ExitStack, port: int):
    """Starts a server on a processor of its own and waits until it accepts; it ends with the stack."""
    errors = directory / f"{name.replace(' ', '-')}.stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "taskset", "-c", cpu, *map(str, command)],
                                   stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, cwd=directory)
    stack.callback(stop, process)
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return process
        if process.poll() is not None or time.monotonic() > deadline:
            how = "did not accept within 10 s" if process.poll() is None else f"ended with {process.returncode}"
            raise Failure(f"{name} {how}: {errors.read_text(errors='replace').strip()}")
        time.sleep(0.02)


def stop(process: subprocess.Popen) -> None:
    for ending in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def check_answer(proxy: Proxy) -> None:
    """One request by hand, so that nobody is measured at sending errors."""
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        client.settimeout(5)
        client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := client.recv(4096):
            answer += chunk
    if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(BODY.encode()):
        raise Failure(f"{proxy.name} does not forward: {answer[:200]!r}")


# Measuring


def measure(options: argparse.Namespace, proxies: list[Proxy]) -> dict[str, list[Round]]:
    rounds: dict[str, list[Round]] = {proxy.name: [] for proxy in proxies}
    for number in range(options.rounds):
        turn = number % len(proxies)
        for proxy in proxies[turn:] + proxies[:turn]:
            before = proxy.cpu()
            load = wrk(options, proxy, options.seconds)
            cpu = (proxy.cpu() - before) / load.requests / 1000
            rounds[proxy.name].append(Round(cpu, load))
            print(f"round {number + 1}: {proxy.name:8} {cpu:7.2f} us CPU a request, {load.rate:9.0f} requests/s, "
                  f"p50 {load.p50:.2f} ms, p99 {load.p99:.2f} ms", flush=True)
    return rounds


def wrk(options: argparse.Namespace, proxy: Proxy, seconds: int) -> Load:
    run = subprocess.run(
        ["taskset", "-c", options.load_cpu, "wrk", "-t1", f"-c{options.connections}", f"-d{seconds}s", "--latency",
         f"http://127.0.0.1:{proxy.port}/"],
        capture_output=True, text=True)
    text = run.stdout
    if run.returncode or "Socket errors" in text or "Non-2xx" in text:
        raise Failure(f"wrk is not content with {proxy.name}:\n{text}{run.stderr}")
    requests, length = re.search(r"(\d+) requests in ([\d.]+\w+)", text).groups()
    return Load(int(requests), milliseconds(length) / 1000, percentile(text, 50), percentile(text, 99))


def percentile(text: str, percent: int) -> float:
    return milliseconds(re.search(rf"^\s+{percent}%\s+(\S+)$", text, re.MULTILINE)[1])


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m|h)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}[unit]


def count_syscalls(options: argparse.Namespace, directory: Path, stack: contextlib.ExitStack, proxy: Proxy):
    """(name, calls per request, failed calls per request) of a run that is slowed down by being watched."""
    table = directory / f"{proxy.name}.strace"
    watched = [argument for pid in proxy.processes() for argument in ("-p", str(pid))]
    tracer = subprocess.Popen(["strace", "-c", "-f", "-o", table, *watched], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    stack.callback(stop, tracer)
    for _ in proxy.processes():
        line = tracer.stderr.readline()
        if "attached" not in line:
            raise Failure(f"strace cannot watch {proxy.name}: {line.strip()}")
    load = wrk(options, proxy, 3)
    tracer.send_signal(signal.SIGINT)
    tracer.communicate(timeout=10)
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(\d+)?\s+(\w+)$", table.read_text(), re.MULTILINE)
    return [(name, int(calls) / load.requests, int(failed or 0) / load.requests)
            for calls, failed, name in rows if name != "total"]


# Printing


def print_machine(options: argparse.Namespace, river: Path | None) -> None:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    print(f"machine: {os.cpu_count()} processors, {model[1] if model else 'unknown model'}, Linux {os.uname().release}")
    print(f"pinned: proxy to processor {options.proxy_cpu}, wrk and origin to {options.load_cpu}; "
          f"{options.connections} connections, {options.rounds} rounds of {options.seconds} s")
    if river:
        print(f"river: {first_line([river, '--version'])} ({river})")
    print(f"nginx: {first_line([program('nginx'), '-v'])} (origin{' and proxy' if 'nginx' in options.only else ''})")
    if "haproxy" in options.only:
        print(f"haproxy: {first_line([program('haproxy'), '-v'])}")
    print(f"wrk: {first_line([program('wrk'), '-v'])}", flush=True)


def first_line(command: list) -> str:
    run = subprocess.run(command, capture_output=True, text=True)
    return (run.stdout + run.stderr).strip().split("\n")[0]


def print_rounds(rounds: dict[str, list[Round]]) -> None:
    print(f"\n{'median (min-max)':18} {'us CPU/request':>22} {'requests/s':>27} {'p50 ms':>20} {'p99 ms':>20}")
    for name, values in rounds.items():
        print(f"{name:18} {spread([value.cpu for value in values], 2):>22} "
              f"{spread([value.load.rate for value in values], 0):>27} "
              f"{spread([value.load.p50 for value in values], 2):>20} "
              f"{spread([value.load.p99 for value in values], 2):>20}")


def print_ratio(rounds: dict[str, list[Round]]) -> None:
    peers = [rounds[name] for name in PEERS if name in rounds]
    if not peers:
        return
    better = [min(peer[number].cpu for peer in peers) for number in range(len(peers[0]))]
    print("\nCPU per request over that of the better peer in the same round:")
    for name, values in rounds.items():
        ratios = [value.cpu / best for value, best in zip(values, better)]
        print(f"{name:18} {spread(ratios, 3)}")


def print_syscalls(proxy: Proxy, counts: list[tuple[str, float, float]]) -> None:
    print(f"\n{proxy.name}: system calls a request (of them failed)")
    for name, calls, failed in sorted(counts, key=lambda count: -count[1]):
        if calls >= 0.0005:
            print(f"  {name:16} {calls:8.3f} ({failed:.3f})")


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


if __name__ == "__main__":
    sys.exit(main())
