"""The configuration of the origin and of each proxy, as equal as they can be."""

from dataclasses import dataclass
from pathlib import Path

from .loads import Load

MANY = 1_000_000_000
CIPHER = "TLS_AES_128_GCM_SHA256"


@dataclass(frozen=True)
class Certificate:
    """Files: the certificate and its key, and both in one as HAProxy wants them."""

    cert: Path
    key: Path
    both: Path


@dataclass(frozen=True)
class Setup:
    """What one proxy is to do."""

    load: Load
    workers: int
    port: int
    origin: int
    certificate: Certificate | None
    # The X-Forwarded fields, as River sets them.
    fields: bool


def origin(directory: Path, port: int, user: str) -> str:
    """nginx as the server behind the proxies."""
    return NGINX.format(dir=directory, name="origin", workers=1, many=MANY, user=user, body=f"""
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16 inactive=1h;
    open_file_cache_valid 1h;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {directory}/files;
        location = /small {{ default_type text/plain; return 200 "hello\\n"; }}
        location / {{ default_type application/octet-stream; }}
    }}""")


def nginx(directory: Path, name: str, setup: Setup, user: str) -> str:
    """A body neither touches a disk nor is held up by buffers that are smaller than those of the others."""
    tls = ""
    if setup.load.tls:
        tls = f"""
        ssl_certificate {setup.certificate.cert};
        ssl_certificate_key {setup.certificate.key};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {CIPHER};
        ssl_session_cache off;
        ssl_session_tickets off;"""
    fields = """
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;""" if setup.fields else ""
    listen = ("ssl " if setup.load.tls else "") + ("http2 " if setup.load.h2 else "")
    return NGINX.format(dir=directory, name=name, workers=setup.workers, many=MANY, user=user, body=f"""
    http2_max_requests {MANY};
    upstream origin {{
        server 127.0.0.1:{setup.origin};
        keepalive 512;
        keepalive_requests {MANY};
    }}
    server {{
        listen 127.0.0.1:{setup.port} {listen}backlog=4096;{tls}
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_buffer_size 16k;
            proxy_buffers 8 64k;
            proxy_busy_buffers_size 128k;
            proxy_max_temp_file_size 0;
            proxy_set_header Host $host;
            proxy_set_header Connection "";{fields}
        }}
    }}""")


def haproxy(setup: Setup) -> str:
    bind = f"127.0.0.1:{setup.port} backlog 4096"
    tls = ""
    if setup.load.tls:
        alpn = "h2" if setup.load.h2 else "http/1.1"
        bind += f" ssl crt {setup.certificate.both} alpn {alpn} no-tls-tickets"
        tls = f"""
    ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
    ssl-default-bind-ciphersuites {CIPHER}
    tune.ssl.cachesize 0"""
    fields = f"""
    option forwardfor
    http-request set-header X-Forwarded-Proto {setup.load.scheme}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]""" if setup.fields else ""
    return f"""
global
    nbthread {setup.workers}
    maxconn 4096{tls}
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 3s
    timeout http-request 10s
    timeout http-keep-alive 60s
    http-reuse always
frontend front
    bind {bind}{fields}
    default_backend back
backend back
    server origin 127.0.0.1:{setup.origin} pool-max-conn 512
"""


def river(setup: Setup) -> str:
    tls = ""
    if setup.load.tls:
        # Where HTTP/2 is not asked for, the clients do not offer it.
        offer = ", offer_h2: true" if setup.load.h2 else ""
        tls = f""",
                tls: (
                    certificates: [(cert: "{setup.certificate.cert}", key: "{setup.certificate.key}")],
                    min_version: Tls13,
                    cipher_suites: ["TLS13_AES_128_GCM_SHA256"],
                ){offer}"""
    return f"""(
    system: (workers: {setup.workers}, pid_file: "river.pid", upgrade_socket: "river.sock"),
    services: {{
        "bench": (
            listeners: [(bind: "127.0.0.1:{setup.port}"{tls})],
            connectors: (
                load_balance: (selection: RoundRobin),
                servers: [(addr: "127.0.0.1:{setup.origin}")],
                pool: (max_idle: 512, idle_timeout: "60s", max_requests: {MANY}),
            ),
        ),
    }},
)
"""


NGINX = """
daemon off;
worker_processes {workers};
{user}
pid {dir}/{name}.pid;
error_log {dir}/{name}.log error;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
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
