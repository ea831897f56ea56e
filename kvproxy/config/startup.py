"""Which settings a proxy starts with: those of the store, or what is best when they cannot be had.

In this order: the store's static keys over arguments, file and defaults; the keys that the proxy
started with last time, when the store does not answer or its keys cannot be used; arguments, file
and defaults alone, when nothing is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.config.last_keys import recall
from kvproxy.config.settings import Settings, SettingsError
from kvproxy.config.static_keys import StaticKeys, ask
from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kvproxy.config.settings import LocalSources
    from kvproxy.config.static_keys import StoreAnswer, StorePlace

PATIENCE_SECONDS = 5.0
"""How long a start waits for a store of which nothing is known."""

SHORT_PATIENCE_SECONDS = 0.4
"""How long it waits when it can start with the keys of the last time: routes must be served."""

Origin = Literal["no store", "store", "last", "nothing"]
"""Where static keys come from; ``last``: those of the last start; ``nothing``: there are none."""


class Start(Struct, frozen=True, kw_only=True):
    """What a proxy starts with.

    ``settings``: the effective ones, warnings included. ``place``: the deciding store. ``keys``:
    the static keys that the settings hold. ``complaints``: why it is not what the store says, to be
    said loudly. ``unanswered``: the store did not answer at all.
    """

    settings: Settings
    origin: Origin
    place: StorePlace | None = None
    keys: StaticKeys | None = None
    complaints: tuple[Problem, ...] = ()
    unanswered: bool = False


async def prepare(
    sources: LocalSources,
    places: Sequence[StorePlace],
    directory: Path,
    *,
    patience: float | None = None,
) -> Start:
    """Ask the first of ``places``, if there is one, and choose.

    ``directory``: the state directory. ``patience``: seconds to wait for the store whatever is
    known (a successor has time, its predecessor serves). Raises `SettingsError` when nothing that
    there is can be used.
    """
    if not places:
        return Start(settings=sources.settings(), origin="no store")
    place = places[0]
    last = recall(directory, place)
    if patience is not None:
        answer = await ask(place, patience)
    elif last is not None:
        answer = await ask(place, SHORT_PATIENCE_SECONDS, persist=False)
    else:
        answer = await ask(place, PATIENCE_SECONDS)
    return choose(sources, place, answer, last)


async def again(
    sources: LocalSources, places: Sequence[StorePlace], last: StaticKeys | None
) -> Start:
    """Read the settings of a proxy that runs with the keys ``last``.

    Unlike a start, this takes nothing else instead of what the store says: raises `SettingsError`
    when the store does not answer or has lost everything.
    """
    if not places:
        return Start(settings=sources.settings(), origin="no store")
    place = places[0]
    answer = await ask(place, PATIENCE_SECONDS)
    if answer.keys is None:
        assert answer.problem is not None
        raise SettingsError([replace(answer.problem, fatal=True)])
    if answer.empty and last is not None and last.values:
        message = "the store is empty, which is taken for a loss"
        raise SettingsError([Problem(message=message, where=place.store, path=place.address)])
    settings = sources.settings(answer.keys)
    problems = (*answer.notes, *settings.problems)
    return Start(
        settings=replace(settings, problems=problems),
        origin="store",
        place=place,
        keys=answer.keys,
    )


async def examine(sources: LocalSources, places: Sequence[StorePlace]) -> Settings:
    """Return the settings that file, arguments and the first of ``places`` give now.

    What the store cannot say is a warning. Raises `SettingsError`.
    """
    if not places:
        return sources.settings()
    answer = await ask(places[0], PATIENCE_SECONDS)
    settings = sources.settings(answer.keys)
    unread = () if answer.problem is None else (answer.problem,)
    return replace(settings, problems=(*unread, *answer.notes, *settings.problems))


def choose(
    sources: LocalSources, place: StorePlace, answer: StoreAnswer, last: StaticKeys | None
) -> Start:
    """Choose between what the store answered and what it said last time."""
    if answer.keys is None:
        assert answer.problem is not None
        start = _without_store(sources, place, (answer.problem,), last)
        return replace(start, unanswered=True)
    if answer.empty and last is not None and last.values:
        problem = Problem(
            message="the store is empty, which is taken for a loss",
            where=place.store,
            path=place.address,
            fatal=False,
        )
        return _without_store(sources, place, (problem, *answer.notes), last)
    try:
        settings = sources.settings(answer.keys)
    except SettingsError as error:
        if last is None or last.values == answer.keys.values:
            raise
        return _without_store(sources, place, error.problems, last)
    problems = (*answer.notes, *settings.problems)
    return Start(
        settings=replace(settings, problems=problems),
        origin="store",
        place=place,
        keys=answer.keys,
    )


def _without_store(
    sources: LocalSources,
    place: StorePlace,
    complaints: Sequence[Problem],
    last: StaticKeys | None,
) -> Start:
    if last is not None:
        message = f"STALE: static settings of {place.store} are those of the last start"
        notice = Problem(message=message, where=place.store, fatal=False)
        return Start(
            settings=sources.settings(last),
            origin="last",
            place=place,
            keys=last,
            complaints=(*complaints, notice),
        )
    message = "started without the static settings of the store: arguments, file and defaults count"
    notice = Problem(message=message, where=place.store, fatal=False)
    return Start(
        settings=sources.settings(), origin="nothing", place=place, complaints=(*complaints, notice)
    )
