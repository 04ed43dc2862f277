"""Memory of a fresh process and of idle connections."""

import contextlib
import resource
import select
import socket
import ssl
import time

from .failure import Failure
from .loads import LOADS, Load
from .servers import HOST, Server, Stage, check_answer, first_lines

# How long memory that is being given back may take to be gone.
SETTLE = 1.0
# Connections before those that count, which make a process put up what it keeps in any case.
FIRST = 64


def print_memory(stage: Stage, origin: Server) -> None:
    """One worker each, plain connections and TLS ones."""
    idle = stage.options.idle
    allow_descriptors(2 * idle + 100)
    print(f"{idle} idle keep-alive connections after their first request, opened one after the other")
    print("  " + "".ljust(18) + "fresh VmRSS MiB".rjust(18) + "fresh RssAnon MiB".rjust(20)
          + "KiB a connection".rjust(20))
    for load in (LOADS["small"], LOADS["tls"]):
        for name in stage.options.only:
            with contextlib.ExitStack() as stack:
                label = f"{name}{', TLS' if load.tls else ''}"
                try:
                    server = stage.start_proxy(name, load, 1, origin, stack)
                    resident, anonymous = server.resident(), server.anonymous()
                    check_answer(server, load, stage.certificate)
                    each = per_connection(stage, server, load, idle)
                except (Failure, OSError) as error:
                    print(f"  {label:18} left out: {first_lines(error)}", flush=True)
                    continue
            print(f"  {label:18}{resident / (1 << 20):18.2f}{anonymous / (1 << 20):20.2f}{each / 1024:20.2f}",
                  flush=True)


def per_connection(stage: Stage, server: Server, load: Load, idle: int) -> float:
    """Bytes of anonymous memory for each connection, over what a few connections have made the process use."""
    with contextlib.ExitStack() as stack:
        clients = [converse(stage, server, load, stack) for _ in range(FIRST)]
        time.sleep(SETTLE)
        before = server.anonymous()
        clients += [converse(stage, server, load, stack) for _ in range(idle)]
        time.sleep(SETTLE)
        taken = server.anonymous() - before
        ended = select.poll()
        for client in clients:
            ended.register(client, select.POLLRDHUP)
        if closed := len(ended.poll(0)):
            raise Failure(f"{server.name} closed {closed} of the connections meanwhile")
        return taken / idle


def converse(stage: Stage, server: Server, load: Load, stack: contextlib.ExitStack) -> socket.socket:
    """A connection that has had its first answer and stays."""
    client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
    if load.tls:
        context = ssl.create_default_context(cafile=str(stage.certificate.cert))
        client = stack.enter_context(context.wrap_socket(client, server_hostname=HOST))
    client.sendall(f"GET {load.path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < load.length:
        chunk = client.recv(4096)
        if not chunk:
            raise Failure(f"{server.name} closes a connection: {answer!r}")
        answer += chunk
    return client


def allow_descriptors(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Failure(f"{wanted} descriptors are needed and {hard} allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
