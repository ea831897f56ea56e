"""The static part of a key tree: finding the store, reading the keys, naming what is wrong.

The keys are those of Traefik 1.7: ``<prefix>/`` and the path of an option in lower case with
``/`` for ``.``. They stand beside the dynamic ones, which are left to the providers.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from kvproxy.config.plugins import PluginError, load_plugin
from kvproxy.config.refusal import is_refused
from kvproxy.model.keytree import nest
from kvproxy.model.kinds import describe, fields_of
from kvproxy.model.packed import NotTextError, readable
from kvproxy.model.problem import Problem
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import (
    EMBEDDED_FILE,
    EmbeddedProvider,
    KeyValueProvider,
    Provider,
)
from kvproxy.provider import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvproxy.model.schema import Report
    from kvproxy.provider import Store, Tree

OptionPath = tuple[str, ...]

STORES = ("consul", "etcd", "zookeeper", "boltdb", "embedded")
"""The sections of key-value stores; the first that is configured decides on static settings."""

TRAEFIK_PREFIX = "traefik"
"""Where Traefik 1.7 keeps its keys unless it is told otherwise."""

MARK = "storeconfig"
"""The key below the prefix that stands while static keys are written in parts; it says by whom."""

SLOWNESS = 3
"""How much longer than errors an open question to a store is borne."""

_PAUSE_SECONDS = 0.05
_USER = re.compile(r"[^,/\s]*@")
_STATIC_NAMES = frozenset(field.encode_name.lower() for field in fields_of(StaticConfiguration))


class StorePlace(Struct, frozen=True):
    """A store and how it is reached.

    ``section``: its settings, such as a `ConsulProvider`. ``static``: the whole that plugins get,
    of which only the sections of stores and ``state_dir`` are set. ``by_argument``: its section was
    named on the command line.
    """

    store: str
    section: KeyValueProvider | EmbeddedProvider
    static: StaticConfiguration
    by_argument: bool = False

    @property
    def prefix(self) -> str:
        """The prefix of all keys, without slashes at its ends."""
        return self.section.prefix.strip("/")

    @property
    def address(self) -> str:
        """Where the store is, for people and for telling two stores apart."""
        section = self.section
        if isinstance(section, EmbeddedProvider):
            return section.path or str(Path(self.static.state_dir) / EMBEDDED_FILE)
        # A password does not belong there, and every store refuses it; it must not be shown either.
        return _USER.sub("***@", section.endpoint)

    @property
    def missing_file(self) -> Path | None:
        """The file of an embedded store when it does not exist; opening it would make it."""
        if not isinstance(self.section, EmbeddedProvider) or Path(self.address).exists():
            return None
        return Path(self.address)

    def open(self) -> Store:
        """Open the store; raises `StoreError`, also when there is no plugin for it."""
        try:
            plugin = load_plugin(self.store)
        except PluginError as error:
            raise StoreError(str(error)) from None
        if plugin.open_store is None:
            raise StoreError(f"provider `{self.store}` is no key-value store")
        return plugin.open_store(self.section, self.static)


class StaticKeys(Struct, frozen=True):
    """The static keys below the prefix of a store from one read; ``values``: by key below it."""

    place: StorePlace
    version: int
    values: Mapping[str, bytes]

    def document(self, report: Report) -> dict[str, Any]:
        """Return the keys as a nested document; values that are not text are left out and named."""
        texts: dict[str, bytes] = {}
        for key, value in self.values.items():
            try:
                texts[key] = readable(value)
            except NotTextError as error:
                path = tuple(filter(None, key.split("/")))
                report.add(path, str(error), expected=error.expected)
        return nest(texts)

    def where(self, path: OptionPath) -> str:
        """Return the whole key of the option ``path``."""
        folded = tuple(part.lower() for part in path)
        for key in self.values:
            if tuple(part.lower() for part in key.split("/") if part) == folded:
                return self._whole(key)
        return self._whole("/".join(path))

    def _whole(self, key: str) -> str:
        return f"{self.place.prefix}/{key}" if self.place.prefix else key


class StoreAnswer(Struct, frozen=True):
    """What a store said when it was asked for the static keys.

    ``keys`` is None when it said nothing that can be used; ``problem`` then says why. ``notes``:
    warnings. ``empty``: there is nothing at all below the prefix.
    """

    keys: StaticKeys | None
    problem: Problem | None = None
    notes: tuple[Problem, ...] = ()
    empty: bool = False


@cache
def connection_options(store: str) -> frozenset[str]:
    """Return the options, in lower case, of the section ``store`` that say how it is reached."""
    fields = {field.encode_name: field for field in fields_of(StaticConfiguration)}
    struct, _, _ = describe(fields[store].type)
    common = {field.encode_name for field in fields_of(Provider)}
    return frozenset(
        field.encode_name.lower() for field in fields_of(struct) if field.encode_name not in common
    )


def is_static(key: str) -> bool:
    """Tell whether a key below the prefix belongs to the static configuration."""
    return key.strip("/").partition("/")[0].lower() in _STATIC_NAMES


def static_values(values: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    """Return the static ones of whole keys, by key below ``prefix``.

    What Traefik 1.7 keeps at ``<acme.storage>/object`` and ``/lock`` are no settings, wherever
    ``acme.storage`` points.
    """
    stem = f"{prefix}/" if prefix else ""
    found = {
        key[len(stem) :]: value
        for key, value in values.items()
        if key.startswith(stem) and is_static(key[len(stem) :])
    }
    storage = next(
        (value for key, value in found.items() if key.lower().strip("/") == "acme/storage"), b""
    )
    account = storage.decode("utf-8", "replace").strip().strip("/")
    if account:
        for name in ("object", "lock"):
            found.pop(f"{account}/{name}".removeprefix(stem), None)
    return found


async def ask(place: StorePlace, seconds: float, *, persist: bool = True) -> StoreAnswer:
    """Read the static keys of a store within ``seconds``.

    With ``persist`` the store is asked again until the time is over, and a question that is still
    open then has `SLOWNESS` times as long: a large tree takes its time. Otherwise the first error
    is the answer, and where nobody listens the store's plugin is not even loaded. An embedded store
    that does not exist yet is empty.
    """
    if place.missing_file is not None:
        return StoreAnswer(StaticKeys(place, 0, {}), empty=True)
    at_once = not persist and isinstance(place.section, KeyValueProvider)
    if at_once and await is_refused(place.address):
        return _no_answer(place, "cannot connect: Connection refused")
    # Importing a client library may take longer than the store is waited for.
    with suppress(PluginError):
        load_plugin(place.store)
    began = time.monotonic()
    ends = began + seconds
    longest = SLOWNESS * seconds if persist else seconds
    message = f"no answer within {longest:g} s"
    while True:
        try:
            async with asyncio.timeout(max(0.0, began + longest - time.monotonic())):
                return await _read(place)
        except TimeoutError:
            break
        except StoreError as error:
            message = str(error)
        except Exception as error:
            # A plugin is foreign code, and the proxy starts whatever it does.
            message = f"{type(error).__name__}: {error}"
        if not persist or time.monotonic() + _PAUSE_SECONDS >= ends:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    return _no_answer(place, message)


def _no_answer(place: StorePlace, reason: str) -> StoreAnswer:
    problem = Problem(message=reason, where=place.store, path=place.address, fatal=False)
    return StoreAnswer(None, problem)


async def _read(place: StorePlace) -> StoreAnswer:
    store = place.open()
    try:
        tree = await store.read(place.prefix)
        mark = tree.values.get(f"{place.prefix}/{MARK}" if place.prefix else MARK)
        if mark is not None:
            who = mark.decode("utf-8", "replace")
            raise StoreError(
                f"static keys are being written, or were left half written, by {who}; "
                "`kvproxy storeconfig --take-over` writes them again"
            )
        notes = () if tree.values else await _hint(store, place)
    finally:
        await store.close()
    return StoreAnswer(static_keys(place, tree), notes=notes, empty=not tree.values)


def static_keys(place: StorePlace, tree: Tree) -> StaticKeys:
    """Return the static part of a tree that was read at the place's prefix."""
    return StaticKeys(place, tree.version, static_values(tree.values, place.prefix))


async def _hint(store: Store, place: StorePlace) -> tuple[Problem, ...]:
    """Return a warning when the keys are where Traefik 1.7 keeps them."""
    try:
        if place.prefix == TRAEFIK_PREFIX or not (await store.read(TRAEFIK_PREFIX)).values:
            return ()
    except StoreError:
        # Who may not read there needs no hint.
        return ()
    slash = "/" if place.section.prefix.startswith("/") else ""
    return (
        Problem(
            message=f"there are no keys below `{place.section.prefix}`, but there are some below "
            f"`{slash}{TRAEFIK_PREFIX}`",
            where=place.store,
            expected=f"--{place.store}.prefix={slash}{TRAEFIK_PREFIX} to use them",
            fatal=False,
        ),
    )
