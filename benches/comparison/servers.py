"""Starting, watching and stopping the origin and the proxies."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import settings
from .failure import Failure
from .loads import SMALL, Load
from .settings import Certificate, Setup

HOST = "localhost"
# The clock of a process's processor time, in Linux's numbering of clocks: the sum of `schedstat` over its threads,
# those that have ended included.
CPU_CLOCK = 2


@dataclass
class Server:
    """The origin or a proxy, running."""

    name: str
    process: subprocess.Popen
    port: int
    workers: int = 1

    @property
    def label(self) -> str:
        return self.name if self.workers == 1 else f"{self.name} x{self.workers}"

    def processes(self) -> list[int]:
        """The one started and those below it."""
        found = [self.process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found += [int(child) for child in children.read_text().split()]
        return found

    def cpu(self) -> float:
        """Seconds that all its threads have spent on a processor."""
        return sum(time.clock_gettime(~pid << 3 | CPU_CLOCK) for pid in self.processes())

    def anonymous(self) -> int:
        """Bytes of memory of its own that are resident (`RssAnon`)."""
        return self.status("RssAnon:")

    def resident(self) -> int:
        """Bytes that are resident, its program's pages included (`VmRSS`)."""
        return self.status("VmRSS:")

    def status(self, key: str) -> int:
        lines = [line for pid in self.processes() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


class Stage:
    """A directory for what is started, and how it is pinned."""

    def __init__(self, options, directory: Path, river: Path | None):
        self.options = options
        self.directory = directory
        self.river = river
        self.certificate: Certificate | None = None
        self.count = 0

    def start_origin(self, stack: contextlib.ExitStack) -> Server:
        files = self.directory / "files"
        files.mkdir()
        for name, length in (("64k", 64 << 10), ("1m", 1 << 20)):
            (files / name).write_bytes(bytes(length))
        port = free_port()
        path = self.directory / "origin.conf"
        path.write_text(settings.origin(self.directory, port, nginx_user()))
        command = [program("nginx"), "-e", self.directory / "origin.log", "-c", path]
        return Server("origin", self.start("the origin", [self.options.origin_cpu], command, stack, port), port)

    def start_proxy(self, name: str, load: Load, workers: int, origin: Server, stack: contextlib.ExitStack) -> Server:
        if load.tls:
            self.certificate = self.certificate or make_certificate(self.directory)
        setup = Setup(load, workers, free_port(), origin.port, self.certificate, not self.options.bare)
        self.count += 1
        directory = self.directory / f"{self.count}-{name}"
        directory.mkdir()
        path = directory / "config"
        if name == "nginx":
            path.write_text(settings.nginx(directory, name, setup, nginx_user()))
            command = [program("nginx"), "-e", directory / "error.log", "-c", path]
        elif name == "haproxy":
            path.write_text(settings.haproxy(setup))
            command = [program("haproxy"), "-db", "-f", path]
        else:
            path = directory / "river.ron"
            path.write_text(settings.river(setup))
            command = [self.river, "--config", path]
        cpus = [self.options.proxy_cpu] if workers == 1 else [self.options.proxy_cpu, self.options.load_cpu]
        process = self.start(name, cpus, command, stack, setup.port, directory)
        return Server(name, process, setup.port, workers)

    def start(self, name: str, cpus: list[int], command: list, stack: contextlib.ExitStack, port: int,
              directory: Path | None = None) -> subprocess.Popen:
        """Starts a server on its processors and waits until it accepts; it ends with the stack."""
        directory = directory or self.directory
        errors = directory / "stderr"
        pinned = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", ",".join(map(str, cpus))]
        with errors.open("wb") as stderr:
            process = subprocess.Popen([*pinned, *map(str, command)], stdin=subprocess.DEVNULL, stdout=stderr,
                                       stderr=stderr, cwd=directory)
        stack.callback(stop, process)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return process
            if process.poll() is not None or time.monotonic() > deadline:
                how = "did not accept within 10 s" if process.poll() is None else f"ended with {process.returncode}"
                raise Failure(f"{name} {how}:\n{errors.read_text(errors='replace').strip()}")
            time.sleep(0.02)


def check_answer(server: Server, load: Load, certificate: Certificate | None) -> None:
    """One request by hand, so that nobody is measured at sending errors or at speaking another protocol."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as client:
        if load.tls:
            context = ssl.create_default_context(cafile=str(certificate.cert))
            context.set_alpn_protocols(["h2"] if load.h2 else ["http/1.1"])
            with context.wrap_socket(client, server_hostname=HOST) as client:
                spoken = (client.version(), client.cipher()[0])
                if spoken != ("TLSv1.3", settings.CIPHER):
                    raise Failure(f"{server.name} speaks {spoken}")
                if load.h2:
                    if client.selected_alpn_protocol() != "h2":
                        raise Failure(f"{server.name} does not offer HTTP/2")
                    return
                answer = ask(client, load.path)
        else:
            answer = ask(client, load.path)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or len(body) != load.length:
        raise Failure(f"{server.name} does not forward: {head[:200]!r}, {len(body)} bytes")


def ask(client: socket.socket, path: str = SMALL) -> bytes:
    client.settimeout(5)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    while chunk := client.recv(1 << 16):
        answer += chunk
    return answer


def make_certificate(directory: Path) -> Certificate:
    """A key on the curve P-256 and a certificate of its own for it."""
    if not program("openssl"):
        raise Failure("openssl is not installed, and the loads over TLS need a certificate")
    cert, key, both = directory / "cert.pem", directory / "key.pem", directory / "both.pem"
    run = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST},IP:127.0.0.1", "-addext",
         "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", cert], capture_output=True, text=True)
    if run.returncode:
        raise Failure(f"openssl makes no certificate: {run.stderr}")
    both.write_text(cert.read_text() + key.read_text())
    return Certificate(cert, key, both)


def first_lines(error: Exception) -> str:
    """What went wrong, without the whole of what a program said about it."""
    return " ".join(str(error).splitlines()[:2])


def stop(process: subprocess.Popen) -> None:
    for ending in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def nginx_user() -> str:
    return "user root;" if os.geteuid() == 0 else ""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
