"""The plan of a worker: compiled frontends and backends of one generation, and the step to the
next.

A step compiles what the delta names, beside the running plan, in slices between which requests are
served; then each entry point's index is swapped by one assignment. What did not change keeps its
very objects.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from kvproxy.balance.chain_identity import ChainIdentity
from kvproxy.balance.stickiness import stickiness_of
from kvproxy.middleware.error_pages import pages_of
from kvproxy.model.digest import add_digests, digest_text
from kvproxy.model.health import check_key
from kvproxy.model.messages import Apply
from kvproxy.proxy.counters import add_cells, new_cells
from kvproxy.proxy.plan.backend_options import breaker_stages, limits
from kvproxy.proxy.plan.certificates import CertificateStep
from kvproxy.proxy.plan.workshop import Workshop
from kvproxy.proxy.request.buffered import buffer_settings
from kvproxy.proxy.request.chain import Chain
from kvproxy.proxy.request.error_page import PageWay
from kvproxy.proxy.request.stages import Stages
from kvproxy.proxy.upstream.balancer import Affinity, Balancer, Member
from kvproxy.proxy.upstream.health import Health
from kvproxy.proxy.upstream.presenting import PresentingServers
from kvproxy.proxy.upstream.server import Server
from kvproxy.routing.index import IndexedRoute
from kvproxy.routing.places import scope_of
from kvproxy.rules.errors import RuleError
from kvproxy.rules.modifiers import NO_MODIFIERS
from kvproxy.rules.parser import FrontendRule, parse_rules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from kvproxy.balance.shared_memory import SharedMemory
    from kvproxy.middleware.error_pages import Page
    from kvproxy.model.dynamic import Frontend
    from kvproxy.model.messages import (
        BackendEntry,
        CertificateEntry,
        EntryKey,
        FrontendEntry,
    )
    from kvproxy.model.static import StaticConfiguration
    from kvproxy.proxy.clock import Clock
    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.upstream.transport import TransportSettings

logger = logging.getLogger("kvproxy.proxy")

SLICE_SECONDS = 0.002
"""How long requests wait at most for a step of the plan."""


UPDATE_ENTRIES = 200
"""Frontends that change in one step of the indexes: each step costs some work of its own."""


class UnknownBaseError(Exception):
    """The delta starts from a generation that this worker does not hold."""


class BackendPlan:
    """A backend's servers, weights and counters in this worker."""

    __slots__ = ("counters", "entry", "members", "stickiness")

    def __init__(
        self, entry: BackendEntry, members: Sequence[Member], counters: dict[str, list[float]]
    ) -> None:
        """``counters``: cells by entry point; they outlive changes of the backend."""
        self.entry = entry
        self.members = members
        self.counters = counters
        self.stickiness = stickiness_of(entry.backend.load_balancer, entry.name)

    def counters_on(self, entry_point: str) -> list[float]:
        """Return the cells for requests of an entry point."""
        cells = self.counters.get(entry_point)
        if cells is None:
            cells = self.counters[entry_point] = new_cells()
        return cells

    @property
    def dynamic(self) -> bool:
        """Whether weights follow failures."""
        balancer = self.entry.backend.load_balancer
        return balancer is not None and balancer.method.lower() == "drr"


class FrontendPlan:
    """A frontend's parsed rules and the entry points that it is attached to."""

    __slots__ = ("entry", "rule")

    def __init__(self, entry: FrontendEntry, rule: FrontendRule | None) -> None:
        """``rule``: all routes of the frontend; None: they cannot be parsed, it serves nothing."""
        self.entry = entry
        self.rule = rule


class Plan:
    """Everything that a worker needs of the present generation."""

    def __init__(
        self,
        settings: StaticConfiguration,
        transport: TransportSettings,
        listeners: Mapping[str, Listener],
        memory: SharedMemory,
        clock: Clock,
    ) -> None:
        """``listeners`` by entry point name; their indexes are replaced by `apply`. ``past`` holds,
        by entry point, what was counted for backends that are gone.

        ``memory``: what all workers share.
        """
        self.health = Health()
        self.generation = 0
        self.digest = ""
        self.backends: dict[EntryKey, BackendPlan] = {}
        self.frontends: dict[EntryKey, FrontendPlan] = {}
        self.certificates: dict[EntryKey, CertificateEntry] = {}
        self.past: dict[str, list[float]] = {}
        self._settings = settings
        self._transport = transport
        self._listeners = listeners
        self._memory = memory
        self._users: dict[EntryKey, set[EntryKey]] = {}
        self._servers: dict[tuple[str, str, str], Server] = {}
        self._perhaps_unused: set[Server] = set()
        self._balancers: WeakValueDictionary[tuple[str, str, bytes], Balancer] = (
            WeakValueDictionary()
        )
        self._digest_sum = 0
        self._presenting = PresentingServers(transport)
        self._workshop = Workshop(settings, transport, clock)
        self._make_stages()

    def _make_stages(self) -> None:
        for listener in self._listeners.values():
            listener.stages = Stages(self._workshop.entry_point(listener.name))
            if listener.internal is not None:
                listener.internal.protect(Stages(self._workshop.protection(listener.name)))

    async def change_entry_points(
        self, settings: StaticConfiguration, names: Collection[str]
    ) -> list[str]:
        """Serve the present generation with other entry points; returns what could not be compiled.

        ``names``: those that came, went or are otherwise than before; the listeners are brought up
        to date by the caller. Costs what the frontends cost that have to do with them.
        """
        self._settings = settings
        self._workshop.use(settings.entry_points)
        self._make_stages()
        step = _Step(self, [Apply(self.generation, self.generation, self.digest)])
        await step.compile_for(names)
        step.swap()
        return step.problems

    @property
    def servers(self) -> Iterable[Server]:
        """All servers that backends name and middlewares ask."""
        return chain(self._servers.values(), self._workshop.servers, list(self._presenting.servers))

    async def apply(self, parts: list[Apply]) -> list[str]:
        """Go to the generation of ``parts``; returns what could not be compiled.

        Raises `UnknownBaseError` when the parts start from another generation; then nothing
        changed.
        """
        first = parts[0]
        if first.base not in (-1, self.generation):
            raise UnknownBaseError(
                f"generation {first.generation} is based on {first.base}, not on {self.generation}"
            )
        # A full collection looks at every object of both plans: a second without requests when
        # they are large. Nothing here, and nothing on the request path, makes cycles.
        collects = gc.isenabled()
        gc.disable()
        try:
            step = _Step(self, parts)
            await step.compile()
            step.swap()
        finally:
            if collects:
                gc.enable()
        self.generation = first.generation
        return step.problems

    def compile_backend(self, entry: BackendEntry) -> BackendPlan:
        """Compile a backend; servers of the same address are shared by the whole worker."""
        weight_zero = self._settings.allow_min_weight_zero
        members: dict[Server, Member] = {}
        for name in sorted(entry.backend.servers):
            configured = entry.backend.servers[name]
            server = self._server(configured.url)
            members[server] = Member(
                server,
                configured.url,
                configured.weight if configured.weight or weight_zero else 1,
                configured.drain,
                check_key(configured.url, entry.backend.health_check),
            )
        previous = self.backends.get((entry.provider, entry.name))
        counters = previous.counters if previous else {}
        return BackendPlan(entry, list(members.values()), counters)

    def _server(self, url: str) -> Server:
        fresh = Server(url, self._transport)
        held = self._servers.setdefault(fresh.identity, fresh)
        if held is fresh:
            self._perhaps_unused.add(held)
        return held

    def use(self, backend: BackendPlan, change: int) -> None:
        """Count a backend (1) as one that names its servers, or no longer (-1)."""
        for member in backend.members:
            member.server.users += change
            if not member.server.users:
                self._perhaps_unused.add(member.server)

    def keep_counts(self, gone: BackendPlan) -> None:
        """Let what was counted for a backend that is gone stay in the sums of entry points."""
        for name, cells in gone.counters.items():
            add_cells(self.past.setdefault(name, new_cells()), cells)

    def forget_servers(self) -> None:
        """Close the connections of servers that no backend names any more."""
        for server in self._perhaps_unused:
            if not server.users:
                del self._servers[server.identity]
                server.leave()
        self._perhaps_unused.clear()

    def compile_chain(
        self,
        listener: Listener,
        frontend: FrontendEntry,
        rule: FrontendRule,
        backend: BackendPlan,
        pages: Iterable[tuple[Page, BackendPlan]],
        problems: list[str],
    ) -> Chain:
        """Compile the way of a request through a frontend on one entry point.

        Frontends of a provider whose settings are equal share one rotation (specification
        section 1.6). ``pages``: with their backends. What cannot be put into effect is added to
        ``problems``, and closes the way. Raises `ValueError` for options that the supervisor should
        not have passed on.
        """
        settings, options = frontend.frontend, backend.entry.backend
        if settings.pass_tls_cert and listener.tls is not None:
            tls = listener.tls.served
            members = self._presenting.members(listener.name, tls, backend.members)
            backend = BackendPlan(backend.entry, members, backend.counters)
        identity = ChainIdentity(listener.name, frontend.provider, settings)
        balancer = self._balancer(identity.key, backend)
        if settings.pass_tls_cert:
            self._presenting.hold(listener.name, balancer)
        affinity = None
        if backend.stickiness is not None or backend.dynamic:
            affinity = Affinity(balancer, backend.stickiness)
        middlewares, problem = self._workshop.frontend(listener.name, settings)
        if problem:
            problems.append(f"frontend {frontend.name} is closed: {problem}")
        breaker = breaker_stages(backend.entry.name, options, identity, self._memory)
        retry = self._settings.retry
        attempts = 1 if retry is None else retry.attempts or max(1, len(backend.members))
        return Chain(
            frontend.name,
            balancer,
            modifiers=rule.modifiers,
            pass_host=settings.pass_host_header,
            priority=settings.priority if settings.priority > 0 else rule.length,
            attempts=attempts,
            counters=backend.counters_on(listener.name),
            backend=backend.entry.name,
            stages=Stages([*middlewares, *breaker]),
            limits=Stages(limits(settings, options, identity, self._memory)),
            choose=None if affinity is None else affinity.choose,
            answered=balancer.answered if backend.dynamic else None,
            buffering=buffer_settings(options.buffering),
            pages=tuple(
                [
                    PageWay(page, self._page_chain(listener.name, frontend.provider, asked))
                    for page, asked in pages
                ]
            ),
        )

    def _page_chain(self, entry_point: str, provider: str, backend: BackendPlan) -> Chain:
        """Return the way to the servers of a backend that is asked for error pages."""
        name = backend.entry.name
        return Chain(
            name,
            self._balancer((entry_point, provider, b"errors " + name.encode()), backend),
            modifiers=NO_MODIFIERS,
            pass_host=False,
            priority=0,
            attempts=max(1, len(backend.members)),
            counters=backend.counters_on(entry_point),
        )

    def _balancer(self, key: tuple[str, str, bytes], backend: BackendPlan) -> Balancer:
        """Return the balancer of a chain: the present one while its members stay the same."""
        held = self._balancers.get(key)
        if held is not None and held.signature == (tuple(backend.members), backend.dynamic):
            return held
        fresh = Balancer(backend.members, self.health, dynamic=backend.dynamic, previous=held)
        self._balancers[key] = fresh
        return fresh

    def entry_points_of(self, frontend: Frontend) -> list[Listener]:
        """Return the listeners that a frontend is attached to."""
        names = frontend.entry_points or self._settings.default_entry_points
        return [self._listeners[name] for name in names if name in self._listeners]


def backends_of(entry: FrontendEntry) -> set[EntryKey]:
    """Return the keys of all backends that a frontend names."""
    frontend = entry.frontend
    names = {frontend.backend, *(page.backend for page in frontend.errors.values())}
    return {(entry.provider, name) for name in names}


class _Step:
    """One change of the plan, compiled beside it."""

    def __init__(self, plan: Plan, parts: list[Apply]) -> None:
        self.plan = plan
        self.problems: list[str] = []
        self._whole = parts[0].base == -1
        self._backends = {(e.provider, e.name): e for part in parts for e in part.backends}
        self._frontends = {(e.provider, e.name): e for part in parts for e in part.frontends}
        self._certificates = CertificateStep(plan.certificates, plan._listeners, parts)
        self._removed_backends = {key for part in parts for key in part.removed_backends}
        self._removed_frontends = {key for part in parts for key in part.removed_frontends}
        if self._whole:
            self._removed_backends |= plan.backends.keys() - self._backends.keys()
            self._removed_frontends |= plan.frontends.keys() - self._frontends.keys()
        self._indexes = {name: listener.index for name, listener in plan._listeners.items()}
        self._new_backends: dict[EntryKey, BackendPlan] = {}
        self._new_frontends: dict[EntryKey, FrontendPlan] = {}
        self._hosts: set[bytes] = set()
        self._slice_ends = perf_counter() + SLICE_SECONDS

    async def compile(self) -> None:
        """Compile everything that the delta touches."""
        plan = self.plan
        for key, entry in self._backends.items():
            held = plan.backends.get(key)
            if held is None or held.entry.digest != entry.digest:
                self._new_backends[key] = plan.compile_backend(entry)
                await self._give_way()
        touched = {
            key: entry
            for key, entry in self._frontends.items()
            if (known := plan.frontends.get(key)) is None or known.entry.digest != entry.digest
        }
        for backend_key in [*self._new_backends, *self._removed_backends]:
            for key in plan._users.get(backend_key, ()):
                if key not in touched and key not in self._removed_frontends:
                    touched[key] = plan.frontends[key].entry
        await self._compile_frontends(touched)
        await self._certificates.compile(self._give_way)

    async def _compile_frontends(self, touched: dict[EntryKey, FrontendEntry]) -> None:
        plan, problems = self.plan, self.problems
        routes: dict[str, list[IndexedRoute[Chain]]] = {name: [] for name in self._indexes}
        gone: set[EntryKey] = set()
        for key in self._removed_frontends:
            self._note_held_hosts(key)
            gone.add(key)
            await self._advance(gone, routes)
        for key, entry in touched.items():
            gone.add(key)
            rule = self._rule(key, entry)
            self._note_held_hosts(key)
            self._note_hosts(rule)
            backend = self._backend(entry, entry.frontend.backend)
            self._new_frontends[key] = FrontendPlan(entry, rule)
            if rule is not None:
                if backend is None:
                    self.problems.append(
                        f"frontend {entry.name}: no backend {entry.frontend.backend}"
                    )
                else:
                    try:
                        pages = self._pages(entry)
                        ways = [
                            (
                                listener,
                                plan.compile_chain(listener, entry, rule, backend, pages, problems),
                            )
                            for listener in plan.entry_points_of(entry.frontend)
                        ]
                    except ValueError as error:
                        self.problems.append(f"frontend {entry.name}: {error}")
                        ways = []
                    for listener, way in ways:
                        routes[listener.name].append(
                            IndexedRoute(key, entry.frontend.priority, rule, way)
                        )
            await self._advance(gone, routes)
        self._update(gone, routes)

    def _backend(self, entry: FrontendEntry, name: str) -> BackendPlan | None:
        """Return a backend that a frontend names, as it will be after this step."""
        key = (entry.provider, name)
        fresh = self._new_backends.get(key)
        if fresh is None and key not in self._removed_backends:
            return self.plan.backends.get(key)
        return fresh

    def _pages(self, entry: FrontendEntry) -> list[tuple[Page, BackendPlan]]:
        """Return the error pages of a frontend whose backends are there."""
        frontend = entry.frontend
        if not frontend.errors:
            return []
        found = [
            (page, self._backend(entry, page.backend))
            for page in pages_of(frontend.errors, frontend.backend)
        ]
        return [(page, backend) for page, backend in found if backend is not None]

    async def _advance(
        self, gone: set[EntryKey], routes: dict[str, list[IndexedRoute[Chain]]]
    ) -> None:
        """Bring the indexes up to date after some frontends, and give way."""
        if len(gone) >= UPDATE_ENTRIES:
            self._update(gone, routes)
        await self._give_way()

    def _update(self, gone: set[EntryKey], routes: dict[str, list[IndexedRoute[Chain]]]) -> None:
        for name, added in routes.items():
            if gone or added:
                self._indexes[name] = self._indexes[name].update(gone, added)
                added.clear()
        gone.clear()

    def _rule(self, key: EntryKey, entry: FrontendEntry) -> FrontendRule | None:
        held = self.plan.frontends.get(key)
        if (
            held is not None
            and held.rule is not None
            and held.entry.frontend.routes == entry.frontend.routes
        ):
            return held.rule
        try:
            return parse_rules({name: route.rule for name, route in entry.frontend.routes.items()})
        except RuleError as error:
            self.problems.append(f"frontend {entry.name}: {error}")
            return None

    async def _give_way(self) -> None:
        """Let requests be served when this slice of work was long enough."""
        if perf_counter() > self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = perf_counter() + SLICE_SECONDS

    async def compile_for(self, entry_points: Collection[str]) -> None:
        """Compile the frontends that stand on these entry points or redirect to them."""
        wanted = frozenset(entry_points)
        touched = {}
        for key, held in self.plan.frontends.items():
            frontend = held.entry.frontend
            names = frontend.entry_points or self.plan._settings.default_entry_points
            redirect = frontend.redirect
            if not wanted.isdisjoint(names) or (
                redirect is not None and redirect.entry_point in wanted
            ):
                touched[key] = held.entry
        await self._compile_frontends(touched)
        await self._certificates.list_again(wanted, self._give_way)

    def swap(self) -> None:
        """Make the compiled step the present plan, in one turn of the loop."""
        plan = self.plan
        added: list[bytes] = []
        removed: list[bytes] = []
        for key in self._removed_frontends:
            self._unlink(key)
            if held := plan.frontends.pop(key, None):
                removed.append(held.entry.digest)
        for key in self._removed_backends:
            if gone := plan.backends.pop(key, None):
                removed.append(gone.entry.digest)
                plan.use(gone, -1)
                plan.keep_counts(gone)
        for key, backend in self._new_backends.items():
            if old := plan.backends.get(key):
                removed.append(old.entry.digest)
                plan.use(old, -1)
            added.append(backend.entry.digest)
            plan.backends[key] = backend
            plan.use(backend, 1)
        for key, frontend in self._new_frontends.items():
            self._unlink(key)
            if previous := plan.frontends.get(key):
                removed.append(previous.entry.digest)
            added.append(frontend.entry.digest)
            plan.frontends[key] = frontend
            for backend_key in backends_of(frontend.entry):
                plan._users.setdefault(backend_key, set()).add(key)
        self._certificates.swap(added, removed)
        plan._digest_sum = add_digests(plan._digest_sum, added, removed)
        plan.digest = digest_text(plan._digest_sum)
        for name, index in self._indexes.items():
            plan._listeners[name].install(index, self._hosts)
        plan.forget_servers()

    def _unlink(self, key: EntryKey) -> None:
        held = self.plan.frontends.get(key)
        if held is not None:
            for backend_key in backends_of(held.entry):
                users = self.plan._users.get(backend_key)
                if users is not None:
                    users.discard(key)
                    if not users:
                        del self.plan._users[backend_key]

    def _note_held_hosts(self, key: EntryKey) -> None:
        held = self.plan.frontends.get(key)
        if held is not None:
            self._note_hosts(held.rule)

    def _note_hosts(self, rule: FrontendRule | None) -> None:
        scope = None if rule is None else scope_of(rule)
        if scope is not None:
            self._hosts.update(scope.hosts)
