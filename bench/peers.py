"""The proxies that are compared, each forwarding everything to the same server, one worker each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "bench.localhost"
ENVOY_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network."
    "http_connection_manager.v3.HttpConnectionManager"
)
PEERS_DIRECTORY = Path(__file__).parent.parent / ".peers"


@dataclass
class Peer:
    """How one proxy is started. ``command`` writes its configuration into a folder and returns
    argv; ``tls_command`` the same for a TLS port, with the certificate of `certificate_files`,
    ``http2_command`` for one that offers HTTP/2, ``grpc_command`` for HTTP/2 in clear on both
    sides."""

    name: str
    command: Callable[[Path, int, int], list[str]]
    version: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    tls_command: Callable[[Path, int, int], list[str]] | None = None
    http2_command: Callable[[Path, int, int], list[str]] | None = None
    grpc_command: Callable[[Path, int, int], list[str]] | None = None

    def installed(self) -> bool:
        """Whether its program is on this machine."""
        program = self.version[0]
        return Path(program).exists() or shutil.which(program) is not None

    def version_text(self) -> str:
        """Return the version that the program tells: its first number with two dots."""
        done = subprocess.run(self.version, capture_output=True, text=True, check=False)
        found = re.search(r"\d+\.\d+\.\d+[\w.+-]*", done.stdout + done.stderr)
        return found[0] if found else "unknown"


def write(folder: Path, name: str, text: str) -> str:
    """Write a configuration file and return its path."""
    path = folder / name
    path.write_text(text)
    return str(path)


def certificate_files(folder: Path) -> tuple[Path, Path]:
    """Return certificate and key (ECDSA, P-256) of the benchmark's host, made when first asked
    for."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if not key.exists():
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        command += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
        command += ["-addext", f"subjectAltName=DNS:{HOST}", "-keyout", str(key)]
        subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


def nginx(
    folder: Path, port: int, backend: int, *, tls: bool = False, http2: bool = False
) -> list[str]:
    """nginx with an upstream keep-alive pool."""
    listen = ""
    if tls:
        certificate, key = certificate_files(folder)
        listen = f"ssl {'http2' if http2 else ''}; "
        listen += f"ssl_certificate {certificate}; ssl_certificate_key {key}; "
        listen += "ssl_protocols TLSv1.2 TLSv1.3"
    configuration = f"""
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096 {listen}; server_name {HOST};
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $proxy_host; proxy_set_header X-Real-Ip $remote_addr;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;
    }}
  }}
}}
"""
    return ["nginx", "-e", f"{folder}/error.log", "-c", write(folder, "nginx.conf", configuration)]


def haproxy(
    folder: Path, port: int, backend: int, *, tls: bool = False, http2: bool = False
) -> list[str]:
    """HAProxy in HTTP mode, one thread, reused connections."""
    bind = ""
    if tls:
        both = "".join(path.read_text() for path in certificate_files(folder))
        offered = "h2,http/1.1" if http2 else "http/1.1"
        bind = f"ssl crt {write(folder, 'both.pem', both)} alpn {offered}"
    configuration = f"""
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  option forwardfor
  http-reuse always
frontend all
  bind 127.0.0.1:{port} {bind}
  acl known hdr(host) -i {HOST}
  use_backend servers if known
backend servers
  http-request set-header X-Forwarded-Proto {"https" if tls else "http"}
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  server one 127.0.0.1:{backend}
"""
    return ["haproxy", "-db", "-f", write(folder, "haproxy.cfg", configuration)]


def traefik(folder: Path, port: int, backend: int, *, tls: bool = False) -> list[str]:
    """Traefik v3 with the file provider."""
    router, section = "", ""
    if tls:
        certificate, key = certificate_files(folder)
        router = ", tls: {}"
        pair = f'certFile: "{certificate}", keyFile: "{key}"'
        section = f"tls: {{stores: {{default: {{defaultCertificate: {{{pair}}}}}}}}}"
    dynamic = write(
        folder,
        "dynamic.yml",
        f"""
http:
  routers:
    all: {{rule: "Host(`{HOST}`)", service: servers{router}}}
  services:
    servers: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{backend}"}}]}}}}
{section}
""",
    )
    static = write(
        folder,
        "traefik.yml",
        f"""
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
entryPoints: {{web: {{address: "127.0.0.1:{port}"}}}}
providers: {{file: {{filename: "{dynamic}"}}}}
""",
    )
    return [str(PEERS_DIRECTORY / "bin/traefik"), f"--configFile={static}"]


def envoy(folder: Path, port: int, backend: int, *, http2: bool = False) -> list[str]:
    """Envoy with one worker thread; ``http2``: to its servers."""
    options = ""
    if http2:
        options = """typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}"""
    configuration = f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {ENVOY_MANAGER}
          stat_prefix: all
          use_remote_address: true
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: all
              domains: ["{HOST}"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: servers}}}}]
  clusters:
  - name: servers
    type: STATIC
    {options}
    load_assignment:
      cluster_name: servers
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}}}
"""
    program = next(PEERS_DIRECTORY.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    return [
        str(program),
        "-c",
        write(folder, "envoy.yaml", configuration),
        "--concurrency",
        "1",
        "-l",
        "error",
        "--disable-hot-restart",
    ]


def caddy(folder: Path, port: int, backend: int) -> list[str]:
    """Caddy with its default reverse proxy."""
    configuration = f"""
{{
  admin off
  auto_https off
  log default {{
    level ERROR
  }}
}}
http://{HOST}:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{backend}
}}
"""
    path = write(folder, "Caddyfile", configuration)
    return [str(PEERS_DIRECTORY / "bin/caddy"), "run", "--config", path, "--adapter", "caddyfile"]


def kvproxy(
    folder: Path, port: int, backend: int, *, tls: bool = False, scheme: str = "http"
) -> list[str]:
    """kvproxy with one worker and the file provider; metrics counted, access log off (defaults).

    ``scheme``: of the server.
    """
    section = ""
    if tls:
        certificate, key = certificate_files(folder)
        section = "[[entryPoints.http.tls.certificates]]\n"
        section += f'certFile = "{certificate}"\nkeyFile = "{key}"'
    configuration = f"""
[entryPoints.http]
address = "127.0.0.1:{port}"
{section}
[file]
[frontends.bench]
backend = "servers"
[frontends.bench.routes.host]
rule = "Host:{HOST}"
[backends.servers.servers.one]
url = "{scheme}://127.0.0.1:{backend}"
"""
    path = write(folder, "kvproxy.toml", configuration)
    state = folder / "state"
    return [
        sys.executable,
        "-m",
        "kvproxy",
        "run",
        f"--configFile={path}",
        "--workers=1",
        f"--stateDir={state}",
        "--logLevel=ERROR",
    ]


def _envoy_program() -> str:
    found = next(PEERS_DIRECTORY.glob("lib/python*/site-packages/envoy/_bin/envoy"), None)
    return str(found or "envoy")


def all_peers() -> dict[str, Peer]:
    """Return every proxy by name, kvproxy first."""
    one_core = {"GOMAXPROCS": "1"}
    traefik_version = [str(PEERS_DIRECTORY / "bin/traefik"), "version"]
    version = [sys.executable, "-m", "kvproxy", "version"]
    peers = [
        Peer(
            "kvproxy",
            kvproxy,
            version,
            tls_command=partial(kvproxy, tls=True),
            http2_command=partial(kvproxy, tls=True),
            grpc_command=partial(kvproxy, scheme="h2c"),
        ),
        Peer("kvproxy, pure Python", kvproxy, version, {"KVPROXY_PURE_PYTHON": "1"}),
        Peer(
            "nginx",
            nginx,
            ["nginx", "-v"],
            tls_command=partial(nginx, tls=True),
            http2_command=partial(nginx, tls=True, http2=True),
        ),
        Peer(
            "HAProxy",
            haproxy,
            ["haproxy", "-v"],
            tls_command=partial(haproxy, tls=True),
            http2_command=partial(haproxy, tls=True, http2=True),
        ),
        Peer(
            "Envoy",
            envoy,
            [_envoy_program(), "--version"],
            grpc_command=partial(envoy, http2=True),
        ),
        Peer(
            "Traefik v3",
            traefik,
            traefik_version,
            one_core,
            tls_command=partial(traefik, tls=True),
            http2_command=partial(traefik, tls=True),
        ),
        Peer("Caddy", caddy, [str(PEERS_DIRECTORY / "bin/caddy"), "version"], one_core),
    ]
    return {peer.name: peer for peer in peers}


def backend_command(folder: Path, ports: list[int]) -> list[str]:
    """An nginx that answers 1 KB from memory, a different letter on each port."""
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{port} backlog=4096; "
        f'location / {{ return 200 "{chr(97 + at) * 1024}"; }} '
        f"location = /unique {{ add_header X-Request-Id $request_id; "
        f'add_header X-Sent $msec; return 200 "{chr(97 + at) * 1024}"; }} }}'
        for at, port in enumerate(ports)
    )
    configuration = f"""
worker_processes 1; daemon off; pid {folder}/backend.pid; error_log {folder}/backend.log;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600;
{servers}
}}
"""
    path = write(folder, "backend.conf", configuration)
    return ["nginx", "-e", f"{folder}/backend.log", "-c", path]


def pinned(core: int, command: list[str]) -> list[str]:
    """Bind a command to one core, when there is more than one."""
    return ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 else command
