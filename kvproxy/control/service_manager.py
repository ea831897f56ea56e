"""Telling systemd (or whoever set ``NOTIFY_SOCKET``) how the supervisor is, by sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket

WATCHDOG_SHARE = 0.5
"""The watchdog is fed after this share of the time that it allows (Traefik 1.7 behaviour)."""


def tell(*facts: str) -> None:
    """Send facts such as ``READY=1``; without a service manager nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection,
    ):
        # A service manager that does not read must not stop the proxy.
        connection.setblocking(False)
        connection.sendto("\n".join(facts).encode(), address)


def ready() -> None:
    """Tell that this process serves and is the main one (after a hand-over: a new one)."""
    tell("READY=1", f"MAINPID={os.getpid()}")


def stopping() -> None:
    """Tell that this process is about to end."""
    tell("STOPPING=1")


def watchdog_seconds() -> float | None:
    """Return how often the watchdog wants to be fed; None when there is none."""
    text = os.environ.get("WATCHDOG_USEC", "")
    if not text.isdigit() or not int(text):
        return None
    return int(text) / 1e6 * WATCHDOG_SHARE
