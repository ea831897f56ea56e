"""Keys below a prefix, grouped into entries, of which only the touched ones are decoded again."""

from __future__ import annotations

import logging
from itertools import chain
from typing import TYPE_CHECKING, Any

from kvproxy.config.static_keys import is_static, static_values
from kvproxy.model.decode import SECTIONS, decode_configuration, decode_entry
from kvproxy.model.dynamic import Configuration
from kvproxy.model.keytree import nest, split_key
from kvproxy.model.packed import NotTextError, readable
from kvproxy.model.problem import Problem
from kvproxy.model.sharded import ShardedMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Entry = tuple[str, str]
"""(section, name)."""

_logger = logging.getLogger(__name__)


class EntryTree:
    """The keys below one prefix and the configuration that they mean.

    ``static_changes`` counts changes of static keys, which mean nothing here (`static_values`).

    `apply` and `replace` take new keys, `refresh` decodes what they touched. Entries that stay
    equal stay the very same objects in ``configuration``; so does the whole when nothing changed.
    """

    def __init__(self, prefix: str) -> None:
        """Start without keys; ``prefix`` has no slash at its ends."""
        self.prefix = prefix
        self.values: dict[str, bytes] = {}
        self.configuration = Configuration(
            **{section: ShardedMap[str, Any]() for section in SECTIONS}
        )
        self.problems: tuple[Problem, ...] = ()
        self.static_changes = 0
        self._members: dict[Entry, dict[str, str]] = {}
        self._entry_problems: dict[Entry, list[Problem]] = {}
        self._strays: dict[str, set[str]] = {}
        self._stray_problems: tuple[Problem, ...] = ()
        self._touched: set[Entry] = set()
        self._strays_touched = False

    def apply(self, changes: Mapping[str, bytes | None]) -> None:
        """Put and delete single keys; None deletes."""
        values, members, touched = self.values, self._members, self._touched
        for key, value in changes.items():
            found = split_key(key, self.prefix)
            if found is None:
                self._apply_stray(key, value)
                continue
            section, name, rest = found
            entry = (section, name)
            touched.add(entry)
            if value is not None:
                values[key] = value
                if entry in members:
                    members[entry][key] = rest
                else:
                    members[entry] = {key: rest}
            elif values.pop(key, None) is not None:
                del members[entry][key]
                if not members[entry]:
                    del members[entry]

    def replace(self, values: Mapping[str, bytes]) -> dict[str, bytes | None]:
        """Make ``values`` all the keys that there are, and return the changes that this took."""
        held = self.values
        changes: dict[str, bytes | None] = {
            key: value for key, value in values.items() if held.get(key) != value
        }
        changes.update(dict.fromkeys(held.keys() - values.keys()))
        self.apply(changes)
        return changes

    @property
    def waiting(self) -> int:
        """How many entries the next `refresh` will decode."""
        return len(self._touched)

    def alias(self) -> tuple[str, bytes] | None:
        """Return the key and value of ``<prefix>/alias``, if there is one."""
        for top in sorted(top for top in self._strays if top.lower() == "alias"):
            for key in sorted(self._strays[top]):
                if key[len(self.prefix) :].strip("/") == top:
                    return key, self.values[key]
        return None

    def static_values(self) -> dict[str, bytes]:
        """Return the static keys, by key below the prefix."""
        values = {key: self.values[key] for keys in self._strays.values() for key in keys}
        return static_values(values, self.prefix)

    def refresh(self) -> bool:
        """Decode what was touched; True when any entry was, even with an equal outcome."""
        if self._strays_touched:
            self._strays_touched = False
            self._refresh_strays()
        if not self._touched:
            return False
        touched, self._touched = self._touched, set()
        changed: dict[str, dict[str, Any]] = {}
        for entry in touched:
            section, name = entry
            decoded, problems = self._decode(entry)
            if problems:
                self._entry_problems[entry] = problems
            else:
                self._entry_problems.pop(entry, None)
            if decoded != getattr(self.configuration, section).get(name):
                changed.setdefault(section, {})[name] = decoded
        if changed:
            sections = {name: getattr(self.configuration, name) for name in SECTIONS}
            for section, entries in changed.items():
                sections[section] = sections[section].changed(entries)
            self.configuration = Configuration(**sections)
        self._gather_problems()
        return True

    def _decode(self, entry: Entry) -> tuple[Any, list[Problem]]:
        members = self._members.get(entry)
        if members is None:
            return None, []
        values: Mapping[str, bytes] = self.values
        try:
            b"\n".join([values[key] for key in members]).decode()
        except UnicodeDecodeError:
            values, garbled = self._readable(entry, members)
            if garbled:
                return None, garbled
        first, rest = next(iter(members.items()))
        spelled = first[: len(first) - len(rest)].rstrip("/")

        def where(path: tuple[str, ...]) -> str:
            return "/".join((spelled, *path[2:]))

        try:
            document = nest({rest: values[key] for key, rest in members.items()})
            return decode_entry(*entry, document, where=where, style="kv")
        except Exception as error:
            # The wall between entries: whatever one of them holds, the others live.
            _logger.exception("%s cannot be decoded", spelled)
            reason = f"cannot be decoded: {type(error).__name__}"
            return None, [Problem(message=reason, where=spelled, entry=entry)]

    def _readable(
        self, entry: Entry, members: Iterable[str]
    ) -> tuple[dict[str, bytes], list[Problem]]:
        """Return the values as UTF-8 by key, and a problem for each that is none."""
        found: dict[str, bytes] = {}
        problems = []
        for key in members:
            try:
                found[key] = readable(self.values[key])
            except NotTextError as error:
                problems.append(
                    Problem(message=str(error), where=key, expected=error.expected, entry=entry)
                )
        return found, problems

    def _apply_stray(self, key: str, value: bytes | None) -> None:
        """Keep a key that belongs to no entry: alias, static option, or a mistake."""
        top = key[len(self.prefix) :].strip("/").partition("/")[0]
        known = top in self._strays
        if is_static(top):
            self.static_changes += 1
        if value is not None:
            self.values[key] = value
            self._strays.setdefault(top, set()).add(key)
        elif self.values.pop(key, None) is not None:
            self._strays[top].discard(key)
            if not self._strays[top]:
                del self._strays[top]
        # Keys that programs keep below the prefix may change all the time: only new names matter.
        if known != (top in self._strays) or top.lower() in SECTIONS:
            self._strays_touched = True

    def _refresh_strays(self) -> None:
        document = {
            top: "".join(self.values[key].decode("utf-8", "replace") for key in keys)
            for top, keys in self._strays.items()
        }

        def where(path: tuple[str, ...]) -> str:
            return "/".join((self.prefix, *path)) if self.prefix else "/".join(path)

        _, problems = decode_configuration(document, where=where, style="kv")
        # A section that is a value refuses no entry: those below it stand beside it in a store.
        self._stray_problems = tuple(
            Problem(
                message=problem.message,
                where=problem.where,
                path=problem.path,
                expected=problem.expected,
                nearest=problem.nearest,
                fatal=False,
            )
            for problem in problems
        )
        self._gather_problems()

    def _gather_problems(self) -> None:
        gathered = (*self._stray_problems, *chain.from_iterable(self._entry_problems.values()))
        if gathered != self.problems:
            self.problems = gathered
