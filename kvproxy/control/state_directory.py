"""The directory where a supervisor keeps what must outlive it.

- ``lock``: locked (flock) by the supervisor that uses the directory; holds its process id
- ``control.sock``: the control socket (`kvproxy.control.administration.status`), mode 0600
- ``workers/PID``: one record per worker process, so that a later supervisor finds orphans
- ``node``: a random word that tells this directory's node from others on hosts of the same name
- ``journal.db``: the journal of generations (`kvproxy.control.generations.journal`)

The default is ``/var/lib/kvproxy`` for root, else ``$XDG_STATE_HOME/kvproxy``, else
``~/.local/state/kvproxy``. When it is missing it is made for its owner alone (0700).
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

CONTROL_SOCKET = "control.sock"


class StateDirectoryError(Exception):
    """The directory cannot be used; the message says why."""


def default_path() -> Path:
    """Return the directory that is used when ``stateDir`` is not set."""
    if os.geteuid() == 0:
        return Path("/var/lib/kvproxy")
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return base / "kvproxy"


def resolve(state_dir: str) -> Path:
    """Return the directory for the setting ``stateDir``, empty for the default, as a whole path."""
    return Path(state_dir).expanduser().absolute() if state_dir else default_path()


class StateDirectory:
    """The state directory, locked for this process (and those that the lock is handed to)."""

    def __init__(self, path: Path, lock: int | None = None) -> None:
        """Create and lock the directory, or take over the descriptor ``lock`` of one that holds it.

        Raises `StateDirectoryError` when another supervisor uses it or it cannot be written.
        """
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.stat().st_mode & stat.S_IWOTH:
                raise StateDirectoryError(
                    f"the state directory {path} can be written by every user; "
                    "choose a directory of its own with stateDir"
                )
            (path / "workers").mkdir(mode=0o700, exist_ok=True)
            if lock is None:
                lock = self._take_lock()
        except OSError as error:
            raise StateDirectoryError(
                f"the state directory {path} cannot be used: {error.strerror or error}; "
                "choose another with stateDir"
            ) from error
        self.lock = lock

    def _take_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(self.path / "lock", flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            raise StateDirectoryError(
                f"the state directory {self.path} is in use by another supervisor"
                f"{f' (process {holder})' if holder else ''}"
            ) from None
        except OSError:
            os.close(lock)
            raise
        return lock

    def sign(self) -> None:
        """Write this process's id into the lock file."""
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, f"{os.getpid()}\n".encode(), 0)

    def node_word(self) -> str:
        """Return the word in ``node``, made when there is none; raises OSError."""
        path = self.path / "node"
        with suppress(FileNotFoundError):
            word = path.read_text().strip()
            if re.fullmatch(r"[0-9a-f]{6}", word):
                return word
        word = secrets.token_hex(3)
        path.write_text(f"{word}\n")
        return word

    @property
    def workers(self) -> Path:
        """Where the records of workers are."""
        return self.path / "workers"

    @property
    def control_socket(self) -> Path:
        """Where the control socket is."""
        return self.path / CONTROL_SOCKET

    def close(self) -> None:
        """Give the lock up, unless another process holds the same lock too."""
        with suppress(OSError):
            os.close(self.lock)
