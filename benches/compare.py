#!/usr/bin/env python3
"""River beside nginx and HAProxy, in one run on one machine: CPU per request, throughput and latency of each load.

One worker each, access logs off, keep-alive to the origin, the same forwarding fields, the same cipher, one origin.
A proxy's worker has one processor to itself; the load generator and the origin share another. Rounds are interleaved,
so that what disturbs the machine disturbs all alike. CPU per request is what the kernel says of every thread of
every process of the proxy (the sum of their `schedstat`), over the requests that were answered.

Needs nginx, haproxy, wrk, h2load (nghttp2-client), openssl, taskset and setpriv (util-linux), and strace for
--syscalls. Everything runs on loopback and in a temporary directory, and is gone when the script ends.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True

from comparison import memory, options as command_line, report, syscalls  # noqa: E402
from comparison.failure import Failure  # noqa: E402
from comparison.generators import Generators  # noqa: E402
from comparison.measure import measure  # noqa: E402
from comparison.servers import Stage, program  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    options = command_line.parse(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        with tempfile.TemporaryDirectory(prefix="river-compare-") as directory, contextlib.ExitStack() as stack:
            os.chmod(directory, 0o755)
            return compare(options, Path(directory), stack)
    except Failure as failure:
        print(f"compare: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def compare(options, directory: Path, stack: contextlib.ExitStack) -> int:
    """Returns the exit code: 1 where a load could not be measured."""
    tools = needed_tools(options)
    missing = sorted(tool for tool in tools if not program(tool))
    if missing:
        raise Failure(f"not installed: {', '.join(missing)}")
    river = river_binary(options) if "river" in options.only else None
    own = None
    if not options.memory and any(load.tool == "own" for load in options.loads):
        own = built(["--example", "load"], "examples/load")
    said = report.machine(options, river, tools)
    report.print_machine(said)
    stage = Stage(options, directory, river)
    origin = stage.start_origin(stack)
    generators = Generators(stage, own)
    if options.memory:
        memory.print_memory(stage, origin)
        return 0
    if options.syscalls:
        for load in options.loads:
            syscalls.print_counts(stage, generators, origin, load)
        return 0
    workers = [1] if options.workers == 1 else [1, 2]
    capacities: dict[str, float] = {}
    results, code = [], 0
    for load in options.loads:
        try:
            results.append(measure(stage, generators, origin, load, workers, capacities))
        except Failure as failure:
            print(f"\n{load.name}: not measured: {failure}\n", flush=True)
            code = 1
            continue
        report.print_result(results[-1])
        if options.json:
            report.write_json(options.json, said, results)
    return code


def needed_tools(options) -> set[str]:
    tools = {"taskset", "setpriv", "nginx"} | (set(options.only) & {"haproxy"})
    loads = [] if options.memory else options.loads
    tools |= {load.tool for load in loads if load.tool != "own"}
    if any(load.open_loop for load in loads) and not options.rate:
        tools.add("wrk")
    if options.memory or any(load.tls for load in loads):
        tools.add("openssl")
    if options.syscalls:
        tools.add("strace")
    return tools


def river_binary(options) -> Path:
    return options.river.resolve() if options.river else built(["--bin", "river"], "river")


def built(what: list[str], path: str) -> Path:
    if subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", *what], cwd=ROOT).returncode:
        raise Failure(f"{' '.join(what)} does not build")
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release" / path


if __name__ == "__main__":
    sys.exit(main())
