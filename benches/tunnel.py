#!/usr/bin/env python3
"""Bytes through a tcp service: CPU of River, and of HAProxy where it is installed, per megabyte and per message.

One worker each, on a processor of its own; both ends of the connections share another. Rounds are interleaved. CPU is
what the kernel says of every thread of every process of the proxy (`schedstat`). `stream` is one direction as fast as
it goes; a number is messages of so many bytes, sent and sent back one at a time on each connection. Everything runs on
loopback and in a temporary directory, and is gone when the script ends.
"""

import argparse
import contextlib
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

sys.dont_write_bytecode = True

from comparison.servers import Server, Stage, free_port, program  # noqa: E402

RIVER = """(system: (workers: 1), services: {{"bench": (
    listeners: [(bind: "127.0.0.1:{port}")], tcp: (servers: [(addr: "127.0.0.1:{origin}")]))}})
"""
HAPROXY = """
global
    nbthread 1
defaults
    mode tcp
    timeout client 60s
    timeout server 60s
    timeout connect 3s
listen bench
    bind 127.0.0.1:{port}
    server origin 127.0.0.1:{origin}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--river", type=Path, action="append", required=True, help="a River binary; may be repeated")
    parser.add_argument("--kind", action="append", help="stream or a number of bytes; may be repeated (default some)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=2, help="length of one measurement (default 2)")
    parser.add_argument("--connections", type=int, default=16, help="connections at a time (default 16)")
    parser.add_argument("--proxy-cpu", type=int, default=0, help="processor of the proxies (default 0)")
    parser.add_argument("--load-cpu", type=int, default=1, help="processor of both ends (default 1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="river-tunnel-") as directory, contextlib.ExitStack() as stack:
        os.chmod(directory, 0o755)
        compare(options, Path(directory), stack)
    return 0


def compare(options, directory: Path, stack: contextlib.ExitStack) -> None:
    for kind in options.kind or ["stream", "1024", "16384", "65536"]:
        listener = socket.create_server(("127.0.0.1", 0))
        origin = multiprocessing.Process(target=serve, args=(listener, kind, options.load_cpu), daemon=True)
        origin.start()
        stack.callback(origin.kill)
        proxies = start(options, directory / kind, stack, listener.getsockname()[1])
        figures: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
        for number in range(options.rounds):
            turn = number % len(proxies)
            for proxy in proxies[turn:] + proxies[:turn]:
                before = proxy.cpu()
                with multiprocessing.Pool(1) as pool:
                    done = pool.apply(load, (proxy.port, kind, options))
                figures[proxy.name].append((proxy.cpu() - before) / done * 1e6)
        unit = "us CPU a MiB" if kind == "stream" else f"us CPU a message of {kind} bytes and its answer"
        for name, values in figures.items():
            median, least, most = statistics.median(values), min(values), max(values)
            print(f"{kind:8} {name:24} {median:9.2f} ({least:.2f}-{most:.2f}) {unit}", flush=True)


def start(options, directory: Path, stack: contextlib.ExitStack, origin: int) -> list[Server]:
    stage = Stage(SimpleNamespace(proxy_cpu=options.proxy_cpu, load_cpu=options.load_cpu), directory, None)
    commands = [(f"river {number}", RIVER, "river.ron", [binary.resolve(), "--config"])
                for number, binary in enumerate(options.river)]
    if program("haproxy"):
        commands.append(("haproxy", HAPROXY, "haproxy.cfg", [program("haproxy"), "-db", "-f"]))
    servers = []
    for name, text, file, command in commands:
        own, port = directory / name.replace(" ", "-"), free_port()
        own.mkdir(parents=True)
        (own / file).write_text(text.format(port=port, origin=origin))
        process = stage.start(name, [options.proxy_cpu], [*command, own / file], stack, port, own)
        servers.append(Server(name, process, port))
    return servers


def serve(listener: socket.socket, kind: str, cpu: int) -> None:
    """Each connection in a process of its own."""
    os.sched_setaffinity(0, {cpu})
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            with contextlib.suppress(OSError):
                answer(connection, kind)
            os._exit(0)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def answer(connection: socket.socket, kind: str) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if kind == "stream":
        block = bytes(256 << 10)
        while True:
            connection.sendall(block)
    buffer = bytearray(int(kind))
    while exactly(connection, buffer):
        connection.sendall(buffer)


def load(port: int, kind: str, options) -> float:
    """Megabytes or messages that went through."""
    os.sched_setaffinity(0, {options.load_cpu})
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(options.connections)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end = time.monotonic() + options.seconds
    done = 0
    buffer = bytearray(1 << 20 if kind == "stream" else int(kind))
    while time.monotonic() < end:
        if kind != "stream":
            for connection in connections:
                connection.sendall(buffer)
        for connection in connections:
            if kind == "stream":
                done += connection.recv_into(buffer) / (1 << 20)
            else:
                done += exactly(connection, buffer)
    for connection in connections:
        connection.close()
    return done


def exactly(connection: socket.socket, buffer: bytearray) -> bool:
    view = memoryview(buffer)
    while view:
        count = connection.recv_into(view)
        if not count:
            return False
        view = view[count:]
    return True


if __name__ == "__main__":
    sys.exit(main())
