"""Start a fork server of workers: ``python -m kvproxy.proxy --control FD``.

The supervisor does this (`kvproxy.control.workers.fork_server`).
"""

from __future__ import annotations

import argparse
import socket

import uvloop

from kvproxy.proxy import fork_server
from kvproxy.proxy.worker import prepare, serve


def main() -> None:
    """Be the fork server, and then, in each process that it makes, the worker."""
    parser = argparse.ArgumentParser(prog="kvproxy fork server")
    parser.add_argument("--control", type=int, required=True, help="descriptor of its socket")
    arguments = parser.parse_args()
    prepare()
    with socket.socket(fileno=arguments.control) as control:
        channel = fork_server.run(control)
    if channel is not None:
        uvloop.run(serve(channel))


if __name__ == "__main__":
    main()
