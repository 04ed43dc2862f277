"""The programs that make load, and what they say of it."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure
from .loads import Load
from .servers import HOST, Server, Stage, program

# Nothing of it runs before the end, so that requests cost wrk nothing more.
WRK_REPORT = """
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format("REPORT %d %d %d %d %d %d %d\\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass
class Report:
    """What a generator said of one run. Latencies are in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    p999: float
    max: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Generators:
    """The programs, as far as the loads need them, and how they are pinned."""

    def __init__(self, stage: Stage, own: Path | None):
        self.stage = stage
        self.own = own
        self.pinned = ["taskset", "-c", str(stage.options.load_cpu)]
        self.script = stage.directory / "report.lua"
        self.script.write_text(WRK_REPORT)

    def run(self, load: Load, server: Server, seconds: float, rate: float | None = None) -> Report:
        connections = load.connections or self.stage.options.connections
        # Two threads are of no use on one processor.
        run = {"wrk": self.wrk, "h2load": self.h2load, "own": self.run_own}[load.tool]
        return run(load, server, seconds, connections, rate)

    def wrk(self, load: Load, server: Server, seconds: float, connections: int, _rate) -> Report:
        out = self.output([program("wrk"), "-t1", "--timeout", "10s", f"-c{connections}", f"-d{round(seconds)}s", "-s",
                           self.script, f"{load.scheme}://{HOST}:{server.port}{load.path}"], server)
        found = re.search(r"^REPORT (.*)$", out, re.MULTILINE)
        if not found:
            raise Failure(f"wrk says nothing of {server.name}:\n{out}")
        requests, duration, p50, p99, p999, most, errors = map(int, found[1].split())
        if errors or not requests:
            raise Failure(f"wrk is not content with {server.name}:\n{out}")
        return Report(requests, duration / 1e6, p50 / 1e3, p99 / 1e3, p999 / 1e3, most / 1e3)

    def h2load(self, load: Load, server: Server, seconds: float, connections: int, _rate) -> Report:
        log = self.stage.directory / "h2load.log"
        log.unlink(missing_ok=True)
        out = self.output([program("h2load"), "-t1", f"-c{connections}", f"-m{load.streams}", f"-D{round(seconds)}",
                           f"--log-file={log}", f"--connect-to=127.0.0.1:{server.port}",
                           f"https://{HOST}:{server.port}{load.path}"], server)
        found = re.search(r"^requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded", out, re.MULTILINE)
        protocol = re.search(r"^Application protocol: (\S+)", out, re.MULTILINE)
        if not found or not int(found[3]) or found[2] != found[3] or not protocol or protocol[1] != "h2":
            raise Failure(f"h2load is not content with {server.name}:\n{out}")
        rows = [line.split("\t") for line in log.read_text().splitlines()]
        latencies = sorted(int(row[2]) / 1000 for row in rows if row[1] == "200")
        if len(latencies) < int(found[3]):
            raise Failure(f"h2load wrote down {len(latencies)} of {found[3]} requests")
        return Report(len(latencies), seconds, at(latencies, 0.5), at(latencies, 0.99), at(latencies, 0.999),
                      latencies[-1])

    def run_own(self, load: Load, server: Server, seconds: float, connections: int, rate: float | None) -> Report:
        command = [self.own, "--address", f"127.0.0.1:{server.port}", "--path", load.path, "--connections",
                   str(connections), "--seconds", str(seconds)]
        if load.tls:
            command += ["--trust", self.stage.certificate.cert, "--name", HOST]
        if load.fresh:
            command += ["--fresh"]
        if rate:
            command += ["--rate", str(round(rate))]
        said = json.loads(self.output(command, server))
        if said["failed"] or not said["requests"]:
            raise Failure(f"{said['failed']} of {said['requests']} requests to {server.name} failed: {said['why']}")
        return Report(said["requests"], said["seconds"], *(said[key] / 1e6 for key in ("p50", "p99", "p999", "max")))

    def output(self, command: list, server: Server) -> str:
        run = subprocess.run([*self.pinned, *map(str, command)], capture_output=True, text=True)
        if run.returncode:
            raise Failure(f"{Path(command[0]).name} against {server.name}: {run.stdout}{run.stderr}".strip())
        return run.stdout


def at(ordered: list[float], share: float) -> float:
    """The value that so large a share of them does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
