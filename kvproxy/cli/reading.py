"""Reading every configured provider once, and judging what it says as a running proxy would."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, cast

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.control.pipeline import Pipeline
from kvproxy.control.sources import PluginError, configured
from kvproxy.model.problem import Problem
from kvproxy.model.toml import TomlError, read_toml
from kvproxy.provider import Failure, Snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from kvproxy.control.generation import Generation
    from kvproxy.control.sources import Opener
    from kvproxy.model.static import StaticConfiguration

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
    pipeline = Pipeline(settings, None, time)
    for event in asyncio.run(_first_events(openers)):
        pipeline.offer(event)
    problems = [
        _located(notice.provider, notice.problem, settings) for notice in pipeline.problems()
    ]
    return Reading(pipeline.generation, tuple(opener.name for opener in openers), tuple(problems))


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
    except StopAsyncIteration:
        message = "the provider ended without a word"
    problem = Problem(message=message, where=opener.name)
    return Failure(provider=opener.name, problems=(problem,), failed_at=time.time())


def _located(provider: str, problem: Problem, settings: StaticConfiguration) -> Problem:
    """Add the file and line, or the key, to a problem that only has the path of an option."""
    if problem.where or not problem.path:
        return problem
    if problem.entry is not None and problem.path.startswith(".".join(problem.entry)):
        rest = problem.path[len(".".join(problem.entry)) :].strip(".")
        path = (*problem.entry, *(rest.split(".") if rest else ()))
    else:
        path = tuple(problem.path.split("."))
    if provider == "file":
        return replace(problem, where=_place_in_files(path, settings))
    prefix = getattr(getattr(settings, provider, None), "prefix", "")
    return replace(problem, where="/".join([prefix.strip("/"), *path]) if prefix else provider)


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
