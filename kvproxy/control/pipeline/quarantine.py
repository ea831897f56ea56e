"""What one provider says, and what of it is served: refused entries keep their previous good
version.

An entry is refused when it could not be decoded, when it is not valid, or, for a frontend, when its
backend is missing or refused. A refused entry that was served before goes on being served as it
was, a frontend together with its backend, until a good version arrives or the entry is deleted. An
entry that was never good is not served, nor is a frontend that is refused for an option that says
who may come in: the version before would let everybody in. Deleting an entry always removes it, but
a backend that frontends still name stays for those that it serves. Certificates are judged each by
itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field

from kvproxy.control.generations.comparison import compare_maps
from kvproxy.control.pipeline.outcome import Quarantined
from kvproxy.control.pipeline.problems import ProblemBook
from kvproxy.model.decode import SECTIONS
from kvproxy.model.dynamic import Configuration
from kvproxy.model.problem import Problem, nearest_name
from kvproxy.model.sharded import ShardedMap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from kvproxy.control.generations.journal import GoodProvider
    from kvproxy.control.validation.validator import Validator
    from kvproxy.model.digest import Section
    from kvproxy.model.dynamic import Backend, Frontend, TLSCertificate
    from kvproxy.model.messages import BackendEntry, CertificateEntry, FrontendEntry

Content = TypeVar("Content")

Refusals = dict[str, tuple[Problem, ...]]


class Difference(Struct, frozen=True):
    """What a provider says now against what it said before, by entry name.

    ``refused``: entries that could not be decoded, with the reasons. ``changed``: entries that are
    new or have another content, or whose decoding failed or failed otherwise before. ``gone``:
    deleted entries.
    """

    configuration: Configuration
    frontends: ShardedMap[str, Frontend]
    backends: ShardedMap[str, Backend]
    certificates: ShardedMap[str, TLSCertificate]
    others: tuple[Problem, ...]
    refused_frontends: Refusals
    refused_backends: Refusals
    refused_certificates: Refusals
    changed_frontends: list[str]
    changed_backends: list[str]
    changed_certificates: list[str]
    gone_frontends: list[str]
    gone_backends: list[str]
    gone_certificates: list[str]

    @property
    def empty(self) -> bool:
        """Whether the provider says nothing at all."""
        said = self.configuration
        return not (
            said.frontends
            or said.backends
            or said.tls
            or self.refused_frontends
            or self.refused_backends
            or self.refused_certificates
        )


class Served(Struct, frozen=True):
    """Which served entries of one provider changed: name to the entry now, None when it is gone."""

    frontends: dict[str, FrontendEntry | None]
    backends: dict[str, BackendEntry | None]
    certificates: dict[str, CertificateEntry | None] = field(default_factory=dict)


class ProviderEntries:
    """The entries of one provider.

    ``frontends``, ``backends`` and ``certificates`` are what is served; every served frontend's
    backend is among them.
    """

    def __init__(self, provider: str, validator: Validator) -> None:
        """Start with nothing said and nothing served."""
        self.frontends: dict[str, FrontendEntry] = {}
        self.backends: dict[str, BackendEntry] = {}
        self.certificates: dict[str, CertificateEntry] = {}
        self.problems = ProblemBook(provider)
        self._provider = provider
        self._validator = validator
        # What was said last, and what of it could not be decoded.
        self._said_frontends: ShardedMap[str, Frontend] = ShardedMap()
        self._said_backends: ShardedMap[str, Backend] = ShardedMap()
        self._said_certificates: ShardedMap[str, TLSCertificate] = ShardedMap()
        self._undecoded_frontends: Refusals = {}
        self._undecoded_backends: Refusals = {}
        self._undecoded_certificates: Refusals = {}
        # Those of the journal, before the provider says anything.
        self._unsaid_certificates: set[str] = set()
        # Frontends that are valid by themselves.
        self._candidates: dict[str, FrontendEntry] = {}
        # Refused frontends whose previous version must not be served either.
        self._closed: set[str] = set()
        # Backends that frontends may name: valid ones and the previous version of refused ones.
        self._usable: dict[str, BackendEntry] = {}
        # Deleted backends that are served for quarantined frontends alone.
        self._kept: dict[str, BackendEntry] = {}
        # Backend name to the frontends whose candidate or served version names it.
        self._users: dict[str, set[str]] = {}
        # Backend name to the frontends whose candidate asks it for error pages.
        self._page_users: dict[str, set[str]] = {}
        self._refused_since: dict[tuple[Section, str], float] = {}

    def restore(self, good: GoodProvider) -> Served:
        """Start with entries that an earlier process served, and return what of them is served now.

        They were judged by that process and are only judged again where its settings may differ.
        """
        self.backends = {entry.name: entry for entry in good.backends}
        self.frontends = {
            entry.name: entry
            for entry in good.frontends
            if entry.frontend.backend in self.backends and self._validator.admits(entry)
        }
        self._said_frontends = ShardedMap.of(
            {name: entry.frontend for name, entry in self.frontends.items()}
        )
        self._said_backends = ShardedMap.of(
            {name: entry.backend for name, entry in self.backends.items()}
        )
        self._usable = self.backends.copy()
        self._candidates = self.frontends.copy()
        for entry in self.frontends.values():
            self._link(entry)
        # What was said of them is not known: only what was made of it.
        self.certificates = {
            entry.name: entry
            for entry in good.certificates
            if self._validator.admits_certificate(entry)
        }
        self._unsaid_certificates = set(self.certificates)
        return Served(dict(self.frontends), dict(self.backends), dict(self.certificates))

    def compare(self, configuration: Configuration, problems: Iterable[Problem]) -> Difference:
        """Compare a configuration with the one before; versions of one map cost what differs."""
        refused: dict[str, dict[str, list[Problem]]] = {section: {} for section in SECTIONS}
        others = []
        for problem in problems:
            if problem.fatal and problem.entry and problem.entry[0] in refused:
                refused[problem.entry[0]].setdefault(problem.entry[1], []).append(problem)
            else:
                others.append(problem)
        refused_frontends = {name: tuple(why) for name, why in refused["frontends"].items()}
        refused_backends = {name: tuple(why) for name, why in refused["backends"].items()}
        refused_certificates = {name: tuple(why) for name, why in refused["tls"].items()}
        frontends = ShardedMap.of(configuration.frontends)
        backends = ShardedMap.of(configuration.backends)
        changed_frontends, gone_frontends = _compare(
            self._said_frontends,
            frontends,
            self._undecoded_frontends,
            refused_frontends,
        )
        changed_backends, gone_backends = _compare(
            self._said_backends, backends, self._undecoded_backends, refused_backends
        )
        certificates = ShardedMap.of(configuration.tls)
        changed_certificates, gone_certificates = _compare(
            self._said_certificates,
            certificates,
            self._undecoded_certificates,
            refused_certificates,
        )
        gone_certificates += [
            name
            for name in self._unsaid_certificates
            if name not in certificates and name not in refused_certificates
        ]
        return Difference(
            configuration,
            frontends,
            backends,
            certificates,
            tuple(others),
            refused_frontends,
            refused_backends,
            refused_certificates,
            changed_frontends,
            changed_backends,
            changed_certificates,
            gone_frontends,
            gone_backends,
            gone_certificates,
        )

    def removed_frontends(self, difference: Difference) -> frozenset[str]:
        """Return the served frontends that were deleted."""
        return frozenset(self.frontends.keys() & difference.gone_frontends)

    def apply(self, difference: Difference, now: float) -> Served:
        """Take over what `compare` found and return what of the served entries changed.

        Costs what changed. ``now``: ``time.time()``, the since-when of new problems.
        """
        self._said_frontends = difference.frontends
        self._said_backends = difference.backends
        self._said_certificates = difference.certificates
        self._undecoded_frontends = difference.refused_frontends
        self._undecoded_backends = difference.refused_backends
        self._undecoded_certificates = difference.refused_certificates
        self._unsaid_certificates.clear()
        self.problems.replace("snapshot", difference.others, now)
        touched = {*difference.changed_backends, *difference.gone_backends}
        affected = {*difference.changed_frontends, *difference.gone_frontends}
        availability = {name: self._availability(name) for name in touched}
        self._judge_backends(difference, now)
        for name, before in availability.items():
            if self._availability(name) != before:
                affected |= self._users.get(name, set()) | self._page_users.get(name, set())
        frontends = self._judge_frontends(difference, affected, now)
        certificates = self._judge_certificates(
            difference.changed_certificates, difference.certificates, now
        )
        certificates.update(self._drop_certificates(difference.gone_certificates, now))
        return Served(frontends, self._serve_backends(touched, affected), certificates)

    def judge_again(self, validator: Validator, now: float) -> Served:
        """Judge all that was said last by another ``validator``; see `apply`."""
        self._validator = validator
        for name, entry in list(self._candidates.items()):
            redirect = entry.frontend.redirect
            if redirect is not None and redirect.entry_point:
                # Whether it is valid depends on what there is to redirect to.
                del self._candidates[name]
        difference = Difference(
            configuration=Configuration(
                frontends=dict(self._said_frontends),
                backends=dict(self._said_backends),
                tls=dict(self._said_certificates),
            ),
            frontends=self._said_frontends,
            backends=self._said_backends,
            certificates=self._said_certificates,
            others=self.problems.of("snapshot"),
            refused_frontends=self._undecoded_frontends,
            refused_backends=self._undecoded_backends,
            refused_certificates=self._undecoded_certificates,
            changed_frontends=list(self._said_frontends),
            changed_backends=list(self._said_backends),
            changed_certificates=list(self._said_certificates),
            gone_frontends=[],
            gone_backends=[],
            gone_certificates=[],
        )
        # The provider may not have spoken yet: what of the journal it will not say goes then.
        unsaid = self._unsaid_certificates.copy()
        served = self.apply(difference, now)
        self._unsaid_certificates = unsaid
        return served

    @property
    def files(self) -> set[str]:
        """The files that the certificates name."""
        return {
            text.strip()
            for said in self._said_certificates.values()
            for text in (said.certificate.cert_file, said.certificate.key_file)
            if text.strip() and "-----BEGIN" not in text
        }

    def read_again(self, files: Collection[str], now: float) -> Served:
        """Judge the certificates in these files again; see `apply`."""
        listing = self._said_certificates
        names = [
            name
            for name, said in listing.items()
            if said.certificate.cert_file.strip() in files
            or said.certificate.key_file.strip() in files
        ]
        return Served({}, {}, self._judge_certificates(names, listing, now))

    def quarantined(self) -> Iterator[Quarantined]:
        """Iterate over the refused entries."""
        served: dict[Section, Mapping[str, object]] = {
            "frontends": self.frontends,
            "backends": self.backends,
            "tls": self.certificates,
        }
        for (section, name), since in self._refused_since.items():
            reasons = (
                *self.problems.of((section, name)),
                *self.problems.of(("attach", name) if section == "frontends" else None),
                *self.problems.of(("reference", name) if section == "frontends" else None),
            )
            yield Quarantined(
                provider=self._provider,
                section=section,
                name=name,
                problems=tuple(problem for problem in reasons if problem.fatal),
                since=since,
                serving=name in served[section],
            )

    def _availability(self, backend: str) -> str:
        """Return why frontends cannot use a backend; empty when they can."""
        if backend in self._usable:
            return ""
        return "is refused" if ("backends", backend) in self._refused_since else "does not exist"

    def _judge_certificates(
        self, names: Iterable[str], said: Mapping[str, TLSCertificate], now: float
    ) -> dict[str, CertificateEntry | None]:
        served: dict[str, CertificateEntry | None] = {}
        for name in names:
            entry = None
            problems = self._undecoded_certificates.get(name)
            if problems is None:
                verdict = self._validator.certificate(self._provider, name, said[name], now)
                entry, problems = verdict.entry, verdict.problems
            self.problems.replace(("tls", name), problems, now)
            if entry is None:
                self._refused_since.setdefault(("tls", name), now)
                continue
            self._refused_since.pop(("tls", name), None)
            held = self.certificates.get(name)
            if held is None or held.digest != entry.digest:
                self.certificates[name] = served[name] = entry
        return served

    def _drop_certificates(
        self, names: Iterable[str], now: float
    ) -> dict[str, CertificateEntry | None]:
        served: dict[str, CertificateEntry | None] = {}
        for name in names:
            self.problems.replace(("tls", name), (), now)
            self._refused_since.pop(("tls", name), None)
            if self.certificates.pop(name, None) is not None:
                served[name] = None
        return served

    def _judge_backends(self, difference: Difference, now: float) -> None:
        for name in difference.changed_backends:
            entry = None
            problems = difference.refused_backends.get(name)
            if problems is None:
                content = difference.configuration.backends[name]
                verdict = self._validator.backend(self._provider, name, content)
                entry, problems = verdict.entry, verdict.problems
            self.problems.replace(("backends", name), problems, now)
            served = self.backends.get(name)
            if entry is None:
                self._refused_since.setdefault(("backends", name), now)
                entry = served
            else:
                self._refused_since.pop(("backends", name), None)
                if served is not None and served.digest == entry.digest:
                    entry = served
            if entry is not None:
                self._usable[name] = entry
        for name in difference.gone_backends:
            self.problems.replace(("backends", name), (), now)
            self._refused_since.pop(("backends", name), None)
            self._usable.pop(name, None)

    def _judge_frontends(
        self, difference: Difference, affected: Iterable[str], now: float
    ) -> dict[str, FrontendEntry | None]:
        changed = set(difference.changed_frontends)
        gone = set(difference.gone_frontends)
        served: dict[str, FrontendEntry | None] = {}
        for name in sorted(affected):
            before = self.frontends.get(name)
            for entry in (self._candidates.get(name), before):
                if entry is not None:
                    self._unlink(entry)
            if name in gone:
                self._candidates.pop(name, None)
                self._forget_frontend(name, now)
                after = None
            else:
                if name in changed:
                    self._judge_frontend(name, difference, now)
                after = self._choose(name, before, now)
            for entry in (self._candidates.get(name), after):
                if entry is not None:
                    self._link(entry)
            if after is before:
                continue
            served[name] = after
            if after is None:
                del self.frontends[name]
            else:
                self.frontends[name] = after
        return served

    def _judge_frontend(self, name: str, difference: Difference, now: float) -> None:
        candidate = self._candidates.pop(name, None)
        reasons = difference.refused_frontends.get(name)
        attached = None
        attach_problems: tuple[Problem, ...] = ()
        if reasons is None:
            content = difference.configuration.frontends[name]
            attached, attach_problems = self._validator.attach(name, content)
        self.problems.replace(("attach", name), attach_problems, now)
        if candidate is not None and candidate.frontend == attached:
            self._candidates[name] = candidate
            return
        self._closed.discard(name)
        entry = None
        if attached is not None:
            verdict = self._validator.frontend(self._provider, name, attached)
            entry, reasons = verdict.entry, verdict.problems
            if verdict.closes:
                self._closed.add(name)
        self.problems.replace(("frontends", name), reasons or (), now)
        if entry is not None:
            served = self.frontends.get(name)
            same = served is not None and served.digest == entry.digest
            self._candidates[name] = served if served is not None and same else entry

    def _choose(self, name: str, before: FrontendEntry | None, now: float) -> FrontendEntry | None:
        """Return what to serve of a frontend that is not deleted."""
        candidate = self._candidates.get(name)
        missing: tuple[Problem, ...] = ()
        if candidate is not None:
            backend = candidate.frontend.backend
            why = self._availability(backend)
            if not why:
                self.problems.replace(("reference", name), (), now)
                self.problems.replace(("pages", name), self._missing_pages(candidate), now)
                self._refused_since.pop(("frontends", name), None)
                return candidate
            missing = (self._missing_backend(name, backend, why),)
        self.problems.replace(("reference", name), missing, now)
        self._refused_since.setdefault(("frontends", name), now)
        return None if name in self._closed else before

    def _missing_backend(self, name: str, backend: str, why: str) -> Problem:
        return Problem(
            message=f"its backend `{backend}` {why}",
            path=f"frontends.{name}.backend",
            expected="a backend of the same provider",
            # Nearest names of a huge list would take seconds.
            nearest=nearest_name(backend, self._usable) if len(self._usable) <= 1000 else "",
            entry=("frontends", name),
        )

    def _missing_pages(self, entry: FrontendEntry) -> tuple[Problem, ...]:
        """Warn of error pages whose backend is not there: the answers pass as they are."""
        return tuple(
            Problem(
                message=f"the backend `{page.backend}` does not exist: the page is not used",
                path=f"frontends.{entry.name}.errors.{name}.backend",
                expected="a backend of the same provider",
                nearest=nearest_name(page.backend, self._usable)
                if len(self._usable) <= 1000
                else "",
                fatal=False,
            )
            for name, page in entry.frontend.errors.items()
            if page.backend not in self._usable
        )

    def _forget_frontend(self, name: str, now: float) -> None:
        for owner in ("attach", "frontends", "reference", "pages"):
            self.problems.replace((owner, name), (), now)
        self._refused_since.pop(("frontends", name), None)
        self._closed.discard(name)

    def _link(self, entry: FrontendEntry) -> None:
        for names, backend in self._named_by(entry):
            names.setdefault(backend, set()).add(entry.name)

    def _unlink(self, entry: FrontendEntry) -> None:
        for names, backend in self._named_by(entry):
            users = names.get(backend)
            if users is not None:
                users.discard(entry.name)
                if not users:
                    del names[backend]

    def _named_by(self, entry: FrontendEntry) -> Iterator[tuple[dict[str, set[str]], str]]:
        """Yield the backends that an entry names, each with the map that notes who does."""
        yield self._users, entry.frontend.backend
        for page in entry.frontend.errors.values():
            yield self._page_users, page.backend

    def _serve_backends(
        self, touched: Iterable[str], affected: Iterable[str]
    ) -> dict[str, BackendEntry | None]:
        needed = {
            self.frontends[name].frontend.backend for name in affected if name in self.frontends
        }
        for name in needed:
            if name not in self._usable and name not in self._kept:
                self._kept[name] = self.backends[name]
        dropped = [name for name in self._kept if name in self._usable or not self._serves(name)]
        for name in dropped:
            del self._kept[name]
        served: dict[str, BackendEntry | None] = {}
        for name in sorted({*touched, *dropped}):
            after = self._usable.get(name) or self._kept.get(name)
            if after is self.backends.get(name):
                continue
            served[name] = after
            if after is None:
                del self.backends[name]
            else:
                self.backends[name] = after
        return served

    def _serves(self, backend: str) -> bool:
        """Whether a served frontend names the backend."""
        return any(
            name in self.frontends and self.frontends[name].frontend.backend == backend
            for name in self._users.get(backend, ())
        )


def _compare(
    said: ShardedMap[str, Content],
    says: ShardedMap[str, Content],
    undecoded: Refusals,
    refused: Refusals,
) -> tuple[list[str], list[str]]:
    """Return the names of changed and of gone entries of one section."""
    others, missing = compare_maps(said, says)
    changed = dict.fromkeys(name for name in others if name not in refused)
    changed.update((name, None) for name in undecoded if name in says and name not in refused)
    changed.update((name, None) for name in refused if undecoded.get(name) != refused[name])
    gone = dict.fromkeys(name for name in missing if name not in refused)
    gone.update((name, None) for name in undecoded if name not in says and name not in refused)
    return list(changed), list(gone)
