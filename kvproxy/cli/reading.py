"""Reading every configured provider once, and judging what it says as a running proxy would."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, cast

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.cli.stores import missing_file
from kvproxy.config.plugins import PluginError
from kvproxy.control.pipeline.pipeline import Pipeline
from kvproxy.control.sources.runner import configured
from kvproxy.control.sources.store_source import problem_of
from kvproxy.model.dynamic import Configuration
from kvproxy.model.problem import Problem
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.toml import TomlError, read_toml
from kvproxy.provider import Failure, Snapshot, StoreError
from kvproxy.routing.index import RouteIndex
from kvproxy.routing.linear import IndexedRoute
from kvproxy.routing.shadow import shadowed
from kvproxy.rules.parser import parse_rules

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Iterable, Sequence

    from kvproxy.control.generations.generation import Generation
    from kvproxy.control.sources.runner import Opener
    from kvproxy.model.messages import FrontendEntry
    from kvproxy.routing.linear import RouteKey

EntryName = tuple[str, str]
"""Section and name of an entry."""

READ_SECONDS = 20.0
"""How long a provider may take to say what it has."""


class Reading(Struct, frozen=True):
    """What the providers say now: the generation that would be served, and every problem."""

    generation: Generation
    providers: tuple[str, ...]
    problems: tuple[Problem, ...]


def read_providers(settings: StaticConfiguration) -> Reading:
    """Read each configured provider once. Nothing is served, watched or written."""
    try:
        openers = configured(settings)
    except PluginError as error:
        return Reading(
            Pipeline(settings, None, time).generation, (), (Problem(message=str(error)),)
        )
    names = tuple(opener.name for opener in openers)
    missing = missing_file(settings)
    if missing is not None:
        # Opening it would make it, and an empty store looks valid.
        openers = [opener for opener in openers if opener.name != "embedded"]
    pipeline = Pipeline(settings, None, time)
    for event in asyncio.run(_first_events(openers)):
        pipeline.offer(event)
    generation = pipeline.generation
    notices = [(each.provider, each.problem) for each in pipeline.problems()]
    if missing is not None:
        notices.append(("embedded", Problem(message="there is no store", where=str(missing))))
    notices += unreachable(generation.frontends.values(), settings)
    entries = {("frontends", name) for _, name in generation.frontends}
    entries |= {("backends", name) for _, name in generation.backends}
    entries |= {("tls", name) for _, name in generation.certificates}
    entries |= {problem.entry for _, problem in notices if problem.entry is not None}
    return Reading(
        generation,
        names,
        tuple(_located(provider, problem, settings, entries) for provider, problem in notices),
    )


def read_files(settings: StaticConfiguration) -> tuple[Configuration, tuple[Problem, ...]]:
    """Read the file provider once, as far as it is configured; returns what it says and problems.

    The problems are those of a running proxy, judged without other providers.
    """
    alone = StaticConfiguration(
        entry_points=settings.entry_points,
        default_entry_points=settings.default_entry_points,
        file=settings.file,
    )
    (opener,) = [opener for opener in configured(alone) if opener.name == "file"]
    event = asyncio.run(_first_event(opener))
    pipeline = Pipeline(alone, None, time)
    pipeline.offer(event)
    notices = [(each.provider, each.problem) for each in pipeline.problems()]
    entries = {problem.entry for _, problem in notices if problem.entry is not None}
    configuration = event.configuration if isinstance(event, Snapshot) else Configuration()
    return configuration, tuple(
        _located(provider, problem, alone, entries) for provider, problem in notices
    )


def unreachable(
    frontends: Iterable[FrontendEntry], settings: StaticConfiguration
) -> list[tuple[str, Problem]]:
    """Return, by provider, a warning for each frontend that can never take a request."""
    by_entry_point: dict[str, list[IndexedRoute[FrontendEntry]]] = defaultdict(list)
    for entry in frontends:
        rules = {name: route.rule for name, route in entry.frontend.routes.items()}
        key = (entry.provider, entry.name)
        route = IndexedRoute(key, entry.frontend.priority, parse_rules(rules), entry)
        for name in set(entry.frontend.entry_points):
            by_entry_point[name].append(route)
    covered: dict[RouteKey, list[RouteKey]] = defaultdict(list)
    entries: dict[RouteKey, FrontendEntry] = {}
    for routes in by_entry_point.values():
        index = RouteIndex.empty(settings.keep_trailing_slash).update((), routes)
        entries |= {route.key: route.payload for route in routes}
        for key, by in shadowed(index).items():
            covered[key].append(by)
    found = []
    for key, all_by in covered.items():
        entry = entries[key]
        if len(all_by) < len(set(entry.frontend.entry_points)):
            continue
        others = ", ".join(f"`{name}` ({provider})" for provider, name in sorted(set(all_by)))
        problem = Problem(
            message=f"is never reached: {others} comes first and takes all its requests",
            path=f"frontends.{entry.name}",
            expected="a narrower rule there, or a higher priority here",
            fatal=False,
        )
        found.append((entry.provider, problem))
    return found


async def _first_events(openers: Sequence[Opener]) -> list[Snapshot | Failure]:
    return await asyncio.gather(*(_first_event(opener) for opener in openers))


async def _first_event(opener: Opener) -> Snapshot | Failure:
    try:
        async with asyncio.timeout(READ_SECONDS):
            source = opener.open()
            try:
                events = cast("AsyncGenerator[Snapshot | Failure, None]", source.snapshots())
                async with aclosing(events):
                    return await anext(events)
            finally:
                await source.close()
    except TimeoutError:
        message = f"the provider says nothing within {READ_SECONDS:g} s"
        problem = Problem(message=message, where=opener.name)
    except StopAsyncIteration:
        problem = Problem(message="the provider ended without a word", where=opener.name)
    except StoreError as error:
        problem = problem_of(opener.name, error)
    return Failure(provider=opener.name, problems=(problem,), failed_at=time.time())


def _located(
    provider: str, problem: Problem, settings: StaticConfiguration, entries: Collection[EntryName]
) -> Problem:
    """Add the file and line, or the key, to a problem that only has the path of an option."""
    if problem.where or not problem.path:
        return problem
    path = _split(problem.path, entries)
    if provider == "file":
        return replace(problem, where=_place_in_files(path, settings))
    prefix = getattr(getattr(settings, provider, None), "prefix", "")
    return replace(problem, where="/".join([prefix.strip("/"), *path]) if prefix else provider)


def _split(dotted: str, entries: Collection[EntryName]) -> list[str]:
    """Split a dotted path; names of entries may hold dots themselves."""
    section, *parts = dotted.split(".")
    for length in range(len(parts), 1, -1):
        name = ".".join(parts[:length])
        if (section, name) in entries:
            return [section, name, *parts[length:]]
    return [section, *parts]


def _place_in_files(path: Sequence[str], settings: StaticConfiguration) -> str:
    """Return ``file:line`` of an option in the files that the file provider reads."""
    for file in _files(settings):
        try:
            document = read_toml(file)
        except TomlError:
            continue
        place = document.where(path)
        if place != document.name:
            return place
    return "file"


def _files(settings: StaticConfiguration) -> list[Path]:
    provider = settings.file
    if provider is None:
        return []
    if provider.directory:
        return sorted(Path(provider.directory).rglob("*.toml"))
    return [Path(provider.filename)]
