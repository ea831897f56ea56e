"""The process that workers are forked from: it has imported the worker once, for all of them.

For each channel that comes over the supervisor's socket it makes one process and answers with its
id. The new process is a grandchild whose parent has ended, so that the supervisor can adopt it, and
learns how it ends.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

from setproctitle import setproctitle

ANSWER_BYTES = 4
"""Length of an answer, the id of the new process in the byte order of the machine."""

IGNORED_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Terminals and service managers signal the whole group; stopping is the supervisor's decision."""


def run(control: socket.socket) -> int | None:
    """Fork until the supervisor closes its side of ``control``, or ends.

    Returns in each new process the descriptor of its channel, and in the fork server None when all
    is over. Raises OSError when no process can be made. Must be called where there is neither a
    thread nor an event loop: forks lose them.
    """
    setproctitle("kvproxy: fork server")
    for ignored in IGNORED_SIGNALS:
        signal.signal(ignored, signal.SIG_IGN)
    # What was imported stays in memory that all share: no collection may write to it.
    gc.collect()
    gc.freeze()
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1, socket.MSG_CMSG_CLOEXEC)
        if not descriptors:
            return None
        (channel,) = descriptors
        answer = _fork()
        if not answer:
            setproctitle("kvproxy: worker")
            return channel
        os.close(channel)
        try:
            control.send(answer)
        except OSError:
            return None


def _fork() -> bytes:
    """Return the answer for a new process whose parent has ended, and nothing in that process."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        new = os.fork()
        if new:
            os.write(writing, new.to_bytes(ANSWER_BYTES, sys.byteorder))
            os._exit(0)
    os.close(writing)
    if between == 0:
        os.close(reading)
        return b""
    os.waitpid(between, 0)
    answer = os.read(reading, ANSWER_BYTES)
    os.close(reading)
    if not answer:
        raise OSError("no process could be forked")
    return answer
