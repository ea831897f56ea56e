"""Start a worker: ``python -m kvproxy.proxy --channel FD --slot N``; the supervisor does this."""

from __future__ import annotations

import argparse

import uvloop

from kvproxy.proxy.worker import serve


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="kvproxy worker")
    parser.add_argument("--channel", type=int, required=True, help="descriptor of the channel")
    parser.add_argument("--slot", type=int, required=True, help="number of this worker, for ps")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.channel))


if __name__ == "__main__":
    main()
