"""What the proxies are put under."""

from dataclasses import dataclass

SMALL = "/small"


@dataclass(frozen=True)
class Load:
    """One kind of load.

    `tool` is what generates it: `wrk` (closed loop, keep-alive), `h2load` (closed loop, HTTP/2) or `own`, which is
    `benches/load`.
    """

    name: str
    what: str
    tool: str = "wrk"
    path: str = SMALL
    length: int = 6
    tls: bool = False
    h2: bool = False
    # A connection for each request.
    fresh: bool = False
    # Requests come when they are due and not when the last is answered.
    open_loop: bool = False
    # How many connections, where the load says so; streams of each, over HTTP/2.
    connections: int | None = None
    streams: int = 1

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"


LOADS = {load.name: load for load in (
    Load("small", "keep-alive GET of 6 bytes"),
    Load("tls", "the same over TLS 1.3", tls=True),
    Load("h2", "HTTP/2 over TLS 1.3 to an HTTP/1.1 origin: 6 bytes, 16 connections of 16 streams", tool="h2load",
         tls=True, h2=True, connections=16, streams=16),
    Load("64k", "keep-alive GET of 64 KiB", path="/64k", length=64 << 10),
    Load("1m", "keep-alive GET of 1 MiB", path="/1m", length=1 << 20),
    Load("handshake", "full TLS 1.3 handshake and one request, a connection each", tool="own", tls=True, fresh=True),
    Load("connection", "a connection for each request, without TLS", tool="own", fresh=True),
    Load("half", "keep-alive GET of 6 bytes, open loop at half the capacity of the slowest peer", tool="own",
         open_loop=True),
    Load("half-tls", "the same over TLS 1.3", tool="own", open_loop=True, tls=True),
)}
