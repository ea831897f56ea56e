"""A writer that changes routes all the time, whatever happens to its store."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from kvproxy.provider import StoreError, Transaction
from tests.support.stores import PREFIX, web

if TYPE_CHECKING:
    from kvproxy.provider import Store

BAD_RULE = b"Hots:nowhere"
WRITE_SECONDS = 2.0


class Writer:
    """``rate`` transactions a second: routes switch their backend, come, go, and are broken.

    - ``steady`` hosts are touched (another priority) and always lead to `one`;
    - ``switching`` hosts lead to `one` or to `two`;
    - ``coming`` hosts come and go;
    - ``broken`` hosts get a rule that is none, or back the good one.
    """

    def __init__(self, store: Store, rate: float) -> None:
        """Nothing is written before `run`."""
        self.written = 0
        self.failed = 0
        self.steady = [f"steady-{number}" for number in range(10)]
        self.switching = [f"switching-{number}" for number in range(10)]
        self.coming = [f"coming-{number}" for number in range(10)]
        self.broken = [f"broken-{number}" for number in range(5)]
        self._store = store
        self._pause = 1 / rate

    def start(self) -> Transaction:
        """Return the routes to begin with."""
        put: dict[str, bytes] = {}
        for host in (*self.steady, *self.switching, *self.broken):
            put |= web(host, "one")
        return Transaction(put=put)

    async def run(self) -> None:
        """Write until cancelled; what the store does not take is not tried again."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self._pause, loop.time() - 1.0)
            await asyncio.sleep(max(0.0, due - loop.time()))
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._store.write(self._change())
            except (StoreError, TimeoutError):
                self.failed += 1
            else:
                self.written += 1

    def _change(self) -> Transaction:
        match random.randrange(5):
            case 0:
                key = f"{PREFIX}/frontends/{random.choice(self.steady)}/priority"
                return Transaction(put={key: b"%d" % random.randrange(1, 100)})
            case 1 | 2:
                key = f"{PREFIX}/frontends/{random.choice(self.switching)}/backend"
                return Transaction(put={key: random.choice((b"one", b"two"))})
            case 3:
                host = random.choice(self.coming)
                if random.random() < 0.5:
                    return Transaction(put=web(host, random.choice(("one", "two"))))
                return Transaction(delete_prefixes=(f"{PREFIX}/frontends/{host}",))
            case _:
                host = random.choice(self.broken)
                key = f"{PREFIX}/frontends/{host}/routes/main/rule"
                return Transaction(put={key: random.choice((BAD_RULE, f"Host:{host}".encode()))})
