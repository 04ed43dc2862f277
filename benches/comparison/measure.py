"""Loads in interleaved rounds."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure
from .generators import Generators, Report
from .loads import LOADS, Load
from .options import PEERS
from .servers import Server, Stage, check_answer, first_lines

# Seconds of load before anything counts.
WARM_UP = 1
# Seconds in which a peer shows what it carries, where no closed-loop load has shown it before.
CAPACITY = 3


@dataclass
class Sample:
    """One proxy in one round."""

    # Microseconds of the proxy's processor time a request.
    cpu: float
    report: Report
    # The share of the time in which its processor was busy with something else, where it has one to itself.
    others: float | None


@dataclass
class Result:
    """All rounds of one load. The proxies are known by name and workers."""

    load: Load
    samples: dict[str, list[Sample]]
    # What is said beside the figures: who was left out and why, and the rate of an open loop.
    notes: list[str]


def measure(stage: Stage, generators: Generators, origin: Server, load: Load, workers: list[int],
            capacities: dict[str, float]) -> Result:
    """Puts each proxy under the load, in turns. `capacities` remembers what the peers carried."""
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        servers = start(stage, load, workers, origin, stack, notes)
        samples: dict[str, list[Sample]] = {server.label: [] for server in servers}
        rate = open_rate(stage, generators, origin, load, capacities, notes) if load.open_loop else None
        for server in servers:
            # One that cannot do it fails below, too.
            with contextlib.suppress(Failure):
                generators.run(load, server, WARM_UP, rate)
        for number in range(stage.options.rounds if servers else 0):
            turn = number % len(servers)
            for server in servers[turn:] + servers[:turn]:
                sample = run(stage, generators, load, server, rate)
                samples[server.label].append(sample)
                report = sample.report
                print(f"{load.name}, round {number + 1}: {server.label:10} {sample.cpu:8.2f} us CPU a request, "
                      f"{report.rate:9.0f} requests/s, p50 {report.p50:.3f} ms, p99 {report.p99:.3f} ms, "
                      f"p99.9 {report.p999:.3f} ms", flush=True)
    if not load.open_loop:
        for label, values in samples.items():
            capacities[f"{load.name} {label}"] = sum(value.report.rate for value in values) / max(1, len(values))
    return Result(load, samples, notes)


def run(stage: Stage, generators: Generators, load: Load, server: Server, rate: float | None) -> Sample:
    begin, before, busy = time.monotonic(), server.cpu(), processor_time(stage.options.proxy_cpu)
    report = generators.run(load, server, stage.options.seconds, rate)
    spent, length = server.cpu() - before, time.monotonic() - begin
    others = (processor_time(stage.options.proxy_cpu) - busy - spent) / length
    return Sample(spent / report.requests * 1e6, report, max(0.0, others) if server.workers == 1 else None)


def processor_time(cpu: int) -> float:
    """Seconds in which a processor was busy, or was kept from it by the host."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{cpu} "):
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    raise Failure(f"/proc/stat does not know processor {cpu}")


def start(stage: Stage, load: Load, workers: list[int], origin: Server, stack: contextlib.ExitStack,
          notes: list[str]) -> list[Server]:
    """Those of the proxies that can do it; of those that cannot, a note says why."""
    servers = []
    for name in stage.options.only:
        for count in workers:
            try:
                server = stage.start_proxy(name, load, count, origin, stack)
                check_answer(server, load, stage.certificate)
                servers.append(server)
            except (Failure, OSError) as error:
                # A peer that does not start is a mistake of this script; River may not be that far.
                if name in PEERS:
                    raise
                notes.append(f"River was left out: {first_lines(error)}")
                break
    return servers


def open_rate(stage: Stage, generators: Generators, origin: Server, load: Load, capacities: dict[str, float],
              notes: list[str]) -> float:
    """Half of what the slowest peer carries in the closed loop that the load resembles."""
    if stage.options.rate:
        return stage.options.rate
    closed = LOADS["tls" if load.tls else "small"]
    names = [name for name in stage.options.only if name in PEERS] or stage.options.only
    for name in names:
        if f"{closed.name} {name}" not in capacities:
            with contextlib.ExitStack() as stack:
                server = stage.start_proxy(name, closed, 1, origin, stack)
                with contextlib.suppress(Failure):
                    generators.run(closed, server, WARM_UP)
                capacities[f"{closed.name} {name}"] = generators.run(closed, server, CAPACITY).rate
    slowest = min(names, key=lambda name: capacities[f"{closed.name} {name}"])
    rate = capacities[f"{closed.name} {slowest}"] / 2
    notes.append(f"{rate:.0f} requests/s, half of what {slowest} carries")
    return rate
