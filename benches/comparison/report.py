"""What is printed and written down."""

import json
import os
import re
import statistics
import subprocess
from dataclasses import asdict
from pathlib import Path

from .measure import Result, Sample
from .options import PEERS
from .servers import program

COLUMNS = (
    ("us CPU/request", 2, lambda sample: sample.cpu),
    ("requests/s", 0, lambda sample: sample.report.rate),
    ("p50 ms", 3, lambda sample: sample.report.p50),
    ("p99 ms", 3, lambda sample: sample.report.p99),
    ("p99.9 ms", 3, lambda sample: sample.report.p999),
)


def machine(options, river: Path | None, tools: set[str]) -> dict[str, str]:
    """What was measured, and on what."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    said = {
        "machine": f"{os.cpu_count()} processors, {model[1] if model else 'unknown model'}, "
                   f"Linux {os.uname().release}, load average {os.getloadavg()[0]:.2f}",
        "pinned": f"a proxy's worker to processor {options.proxy_cpu} (two workers: to {options.proxy_cpu} and "
                  f"{options.load_cpu}), load generator to {options.load_cpu}, origin to {options.origin_cpu}",
        "rounds": f"{options.rounds} of {options.seconds} s, {options.connections} connections",
    }
    if river:
        said["river"] = first_line([river, "--version"])
    for tool, flag in (("nginx", "-v"), ("haproxy", "-v"), ("wrk", "-v"), ("h2load", "--version")):
        if tool in tools and program(tool):
            said[tool] = first_line([program(tool), flag])
    return said


def print_machine(said: dict[str, str]) -> None:
    for key, value in said.items():
        print(f"{key}: {value}")
    print(flush=True)


def print_result(result: Result) -> None:
    """The rounds' medians and extremes, and their ratios to the better peer of the same round."""
    print(f"\n{result.load.name}: {result.load.what}")
    for note in result.notes:
        print(f"  note: {note}")
    rows = [["median (min-max)", *(name for name, _, _ in COLUMNS)]]
    for label, samples in result.samples.items():
        rows.append([label, *(spread([of(sample) for sample in samples], digits) for _, digits, of in COLUMNS)])
    for workers, by_label in ratio_rows(result).items():
        rows.append([f"over the better peer{workers}"])
        rows += [[label, *(spread(values, 3) for values in columns)] for label, columns in by_label.items()]
    print_table(rows)
    for label, samples in result.samples.items():
        if label.endswith(" x2") and (one := result.samples.get(label[:-3])):
            carried = [two.report.rate / alone.report.rate for two, alone in zip(samples, one)]
            cost = [two.cpu / alone.cpu for two, alone in zip(samples, one)]
            print(f"  {label} over one worker: requests/s {spread(carried, 2)}, CPU a request {spread(cost, 2)}")
    others = [sample.others for samples in result.samples.values() for sample in samples if sample.others is not None]
    if others:
        print(f"  the proxy's processor was busy with something else for {spread([100 * value for value in others], 0)} "
              "% of the time")
    print(flush=True)


def print_table(rows: list[list[str]]) -> None:
    """Rows of one cell are headings of what follows."""
    whole = [row for row in rows if len(row) > 1]
    widths = [max(len(row[column]) for row in whole) for column in range(len(whole[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        print("  " + "  ".join(cells).rstrip())


def ratio_rows(result: Result) -> dict[str, dict[str, list[list[float]]]]:
    """For one and two workers: each proxy's value over the better peer's in the same round, by column."""
    found = {}
    for suffix in ("", " x2"):
        peers = [samples for name in PEERS if (samples := result.samples.get(name + suffix))]
        ours = {label: samples for label, samples in result.samples.items()
                if label.endswith(" x2") == bool(suffix) and samples}
        if peers and ours:
            found[", two workers" if suffix else ""] = {
                label: [ratios(samples, peers, of, max if name == "requests/s" else min) for name, _, of in COLUMNS]
                for label, samples in ours.items()}
    return found


def ratios(samples: list[Sample], peers: list[list[Sample]], of, best) -> list[float]:
    better = [best(of(peer[number]) for peer in peers) for number in range(len(samples))]
    return [of(sample) / other for sample, other in zip(samples, better)]


def write_json(path: Path, said: dict[str, str], results: list[Result]) -> None:
    loads = {
        result.load.name: {
            "what": result.load.what,
            "notes": result.notes,
            "samples": {label: [{"cpu_us": sample.cpu, "others": sample.others, **asdict(sample.report)} for sample in samples]
                        for label, samples in result.samples.items()},
        } for result in results}
    path.write_text(json.dumps({"about": said, "loads": loads}, indent=1) + "\n")


def spread(values: list[float], digits: int) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def first_line(command: list) -> str:
    run = subprocess.run(command, capture_output=True, text=True)
    return (run.stdout + run.stderr).strip().split("\n")[0]
