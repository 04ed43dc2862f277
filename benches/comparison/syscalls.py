"""System calls per request."""

import contextlib
import re
import signal
import subprocess

from .failure import Failure
from .generators import Generators
from .loads import Load
from .servers import Server, Stage, check_answer, stop

SECONDS = 3
# Calls rarer than this per request are not about requests.
RARE = 0.0005


def print_counts(stage: Stage, generators: Generators, origin: Server, load: Load) -> None:
    """Counts the calls of each proxy under the load, one after the other."""
    for name in stage.options.only:
        with contextlib.ExitStack() as stack:
            server = stage.start_proxy(name, load, 1, origin, stack)
            check_answer(server, load, stage.certificate)
            generators.run(load, server, 1)
            counts = count(stage, generators, load, server, stack)
        print(f"\n{load.name}, {name}: system calls a request (of them failed)")
        for call, calls, failed in sorted(counts, key=lambda count: -count[1]):
            if calls >= RARE:
                print(f"  {call:16} {calls:8.3f} ({failed:.3f})", flush=True)


def count(stage: Stage, generators: Generators, load: Load, server: Server,
          stack: contextlib.ExitStack) -> list[tuple[str, float, float]]:
    """(name, calls per request, failed calls per request) of a run that is slowed down by being watched."""
    table = stage.directory / "strace"
    watched = [argument for pid in server.processes() for argument in ("-p", str(pid))]
    tracer = subprocess.Popen(["strace", "-c", "-f", "-o", table, *watched], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    stack.callback(stop, tracer)
    for _ in server.processes():
        line = tracer.stderr.readline()
        if "attached" not in line:
            raise Failure(f"strace cannot watch {server.name}: {line.strip()}")
    report = generators.run(load, server, SECONDS, stage.options.rate)
    tracer.send_signal(signal.SIGINT)
    tracer.communicate(timeout=10)
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(\d+)?\s+(\w+)$", table.read_text(), re.MULTILINE)
    return [(name, int(calls) / report.requests, int(failed or 0) / report.requests)
            for calls, failed, name in rows if name != "total"]
