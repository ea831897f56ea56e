"""The matchers: each asks one question about a request.

``test`` answers `NO`, `YES`, or `REDIRECT`: yes, but the request has to be sent to the same path
with its trailing slash added or taken away first. Values that are not valid match nothing and are
left out when the matcher is built, so a matcher may be one that never says yes.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

from kvproxy.rules.errors import shorten
from kvproxy.rules.expressions import ExpressionError
from kvproxy.rules.templates import (
    HOST_VARIABLE,
    PATH_VARIABLE,
    QUERY_VARIABLE,
    TemplateError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kvproxy.rules.context import ParseContext
    from kvproxy.rules.expressions import Expression
    from kvproxy.rules.lexer import Element
    from kvproxy.rules.templates import Template

NO = 0
YES = 1
REDIRECT = 2


class RequestFacts(Protocol):
    """What matchers ask of a request."""

    @property
    def method(self) -> bytes:
        """The method as sent."""
        ...

    @property
    def path(self) -> bytes:
        """The percent-decoded path."""
        ...

    @property
    def canonical_host(self) -> bytes:
        """The host as the function `canonical_host` makes it."""
        ...

    @property
    def host_name(self) -> bytes:
        """The host without port and brackets, case kept."""
        ...

    @property
    def query_values(self) -> Mapping[bytes, bytes]:
        """First value of each decoded parameter."""
        ...

    @property
    def headers(self) -> Mapping[bytes, Sequence[bytes]]:
        """Values by lower-case name, without ``Host``."""
        ...


def host_name(host: bytes) -> bytes:
    """Return a Host value without its port and, for an IPv6 literal, without its brackets."""
    if b":" not in host:
        return host
    if host.startswith(b"["):
        address, bracket, rest = host[1:].partition(b"]")
        return address if bracket and rest[:1] in (b"", b":") else host
    name, _, port = host.partition(b":")
    return host if b":" in port else name


def canonical_host(host: bytes) -> bytes:
    """Return the one spelling of a Host value under which routes are looked up.

    Port and brackets removed, ASCII lower case, IPv6 addresses in their shortest form. A trailing
    dot stays, as in Traefik 1.7.
    """
    if b":" not in host:
        return host.lower()
    name = host_name(host).lower()
    return canonical_address(name) if b":" in name else name


def canonical_address(name: bytes) -> bytes:
    """Return an IPv6 address in its shortest form; anything else as it is."""
    try:
        return socket.inet_ntop(
            socket.AF_INET6, socket.inet_pton(socket.AF_INET6, name.decode("ascii"))
        ).encode()
    except (OSError, UnicodeDecodeError, ValueError):
        return name


class Matcher:
    """Base of the matchers; ``element`` is the text it was made from."""

    __slots__ = ("element",)

    def __init__(self, element: Element) -> None:
        """Keep the text."""
        self.element = element

    def test(self, request: RequestFacts, keep_trailing_slash: bool) -> int:
        """Return `NO`, `YES` or `REDIRECT`."""
        raise NotImplementedError

    def observed(self, request: RequestFacts) -> str:
        """Return what this matcher looked at in ``request``, for people to read."""
        raise NotImplementedError


class HostMatcher(Matcher):
    """``Host``: the canonical host is one of ``hosts``."""

    __slots__ = ("hosts",)

    def __init__(self, element: Element, context: ParseContext) -> None:
        """Read the names."""
        super().__init__(element)
        hosts = []
        for value in element.values:
            if not value:
                context.warnings.append("`Host`: an empty name matches nothing")
                continue
            host = configured_host(value)
            if not value.isascii():
                context.warnings.append(
                    f"`Host`: clients send `{value}` as `{_to_ascii(value)}`: write it so"
                )
            if b":" in host and not _is_address(host):
                context.warnings.append(
                    f"`Host`: `{value}` matches nothing: a name is compared without port, "
                    "and `::` cannot be written in a rule (write the address in full)"
                )
            hosts.append(host)
        self.hosts = tuple(hosts)

    def test(self, request: RequestFacts, keep_trailing_slash: bool) -> int:
        """See `Matcher.test`."""
        return YES if request.canonical_host in self.hosts else NO

    def observed(self, request: RequestFacts) -> str:
        """See `Matcher.observed`."""
        return _text(request.canonical_host)


def configured_host(value: str) -> bytes:
    """Return the canonical form of a host name written in a rule."""
    host = value.lower().encode()
    if b":" not in host:
        return host
    if host.startswith(b"[") and host.endswith(b"]"):
        host = host[1:-1]
    return canonical_address(host)


def _to_ascii(name: str) -> str:
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return "xn--..."


def _is_address(host: bytes) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, host.decode("ascii"))
    except (OSError, UnicodeDecodeError, ValueError):
        return False
    return True


class HostRegexpMatcher(Matcher):
    """``HostRegexp``: a template, in any case, covers the whole host name.

    ``hosts`` are the values without a variable, compared as `HostMatcher` does; ``expressions`` the
    rest.
    """

    __slots__ = ("expressions", "hosts", "suffixes")

    def __init__(self, element: Element, context: ParseContext) -> None:
        """Read the names; raises `BudgetError`."""
        super().__init__(element)
        hosts: list[bytes] = []
        suffixes: set[bytes | None] = set()
        expressions: list[Expression] = []
        for value in element.values:
            try:
                if not value:
                    raise TemplateError("an empty name matches nothing")
                template = context.template(value, HOST_VARIABLE)
                if template.literal is not None:
                    hosts.append(configured_host(value))
                else:
                    expressions.append(context.compile(template, "(?i)^", "$"))
                    suffixes.add(_literal_domain(value))
            except TemplateError as error:
                context.warnings.append(f"`HostRegexp`: {error}")
        self.hosts = tuple(hosts)
        self.expressions = tuple(expressions)
        known = sorted(suffix for suffix in suffixes if suffix is not None)
        self.suffixes = tuple(known) if len(known) == len(suffixes) else None

    def test(self, request: RequestFacts, keep_trailing_slash: bool) -> int:
        """See `Matcher.test`."""
        if self.hosts and request.canonical_host in self.hosts:
            return YES
        name = request.host_name
        for expression in self.expressions:
            if expression.matches(name):
                return YES
        return NO

    def observed(self, request: RequestFacts) -> str:
        """See `Matcher.observed`."""
        return _text(request.host_name)


def _literal_domain(template: str) -> bytes | None:
    """Return the literal end of a host template from its first dot on, None without one."""
    _, dot, rest = template.rpartition("}")[2].partition(".")
    return (dot + rest).lower().encode() if dot and rest.isascii() else None


class PathPattern:
    """One value of a path matcher.

    ``exact``: the whole path is covered, else its beginning. ``prefix``: bytes with which every
    matching path begins (without the trailing slash of an exact value). ``literal``: ``prefix``
    says it all, there is no expression. ``slash``: the value ends with ``/``.
    """

    __slots__ = (
        "_keeping",
        "_template",
        "_tolerant",
        "exact",
        "literal",
        "prefix",
        "slash",
        "text",
    )

    def __init__(self, text: str, exact: bool, context: ParseContext) -> None:
        """Read ``text``; raises `TemplateError` and `BudgetError`."""
        if not text.startswith("/"):
            raise TemplateError(f"{shorten(text)!r} does not start with `/`")
        self.text = text
        self.exact = exact
        self.slash = text.endswith("/")
        self._keeping: Expression | None = None
        self._tolerant: Expression | None = None
        self._template: Template | None = None
        if "{" not in text and (not exact or "}" not in text):
            self.literal = True
            self.prefix = text.encode()
            if exact and self.slash:
                self.prefix = self.prefix[:-1]
            return
        template = context.template(text[:-1] if exact and self.slash else text, PATH_VARIABLE)
        self.literal = False
        # Go's regexp takes an undecodable byte for U+FFFD, so bytes can be compared only before
        # one.
        self.prefix = template.prefix.partition("\ufffd")[0].encode()
        self._template = template
        self._tolerant = context.compile(template, "^", "/?$" if exact else "")

    def test(self, path: bytes, keep_trailing_slash: bool) -> int:
        """Return `NO`, `YES` or `REDIRECT` for a decoded path."""
        if not self.exact:
            if self._tolerant is None:
                return YES if path.startswith(self.prefix) else NO
            return YES if self._tolerant.matches(path) else NO
        if keep_trailing_slash:
            return YES if self._covers(path) else NO
        if self._tolerant is None:
            if path != self.prefix and path != self.prefix + b"/":
                return NO
        elif not self._tolerant.matches(path):
            return NO
        return YES if path.endswith(b"/") == self.slash else REDIRECT

    @property
    def whole(self) -> bytes:
        """The path that a literal value names."""
        return self.prefix + b"/" if self.exact and self.slash else self.prefix

    @property
    def sample(self) -> bytes:
        """A beginning of every path that is taken without a redirect."""
        return self.whole if self.literal else self.prefix

    def _covers(self, path: bytes) -> bool:
        if self._template is None:
            return path == self.whole
        if self._keeping is None:
            self._keeping = self._template.compile("^", "/$" if self.slash else "$")
        return self._keeping.matches(path)


class PathMatcher(Matcher):
    """``Path``, ``PathPrefix`` and their strip forms: the first pattern that fits decides."""

    __slots__ = ("patterns",)

    def __init__(self, element: Element, exact: bool, context: ParseContext) -> None:
        """Read the values; raises `BudgetError`."""
        super().__init__(element)
        patterns = []
        for value in element.values:
            try:
                patterns.append(PathPattern(value, exact, context))
            except TemplateError as error:
                context.warnings.append(f"`{element.name}`: {error}: this value matches nothing")
        self.patterns = tuple(patterns)

    @property
    def shortest_prefix(self) -> int:
        """The length of the shortest literal beginning of a pattern, in bytes."""
        return min([len(pattern.prefix) for pattern in self.patterns], default=0)

    def test(self, request: RequestFacts, keep_trailing_slash: bool) -> int:
        """See `Matcher.test`."""
        path = request.path
        for pattern in self.patterns:
            outcome = pattern.test(path, keep_trailing_slash)
            if outcome:
                return outcome
        return NO

    def observed(self, request: RequestFacts) -> str:
        """See `Matcher.observed`."""
        return _text(request.path)


class MethodMatcher(Matcher):
    """``Method``: the method, exactly as sent, is one of ``methods`` (made upper case)."""

    __slots__ = ("methods",)

    def __init__(self, element: Element) -> None:
        """Read the methods."""
        super().__init__(element)
        self.methods = tuple([value.upper().encode() for value in element.values])

    def test(self, request: RequestFacts, keep_trailing_slash: bool) -> int:
        """See `Matcher.test`."""
        return YES if request.method in self.methods else NO

    def observed(self, request: RequestFacts) -> str:
        """See `Matcher.observed`."""
        return _text(request.method)


class HeadersMatcher(Matcher):
    """``Headers``: each named header has a line with exactly that value; empty value: is there."""

    __slots__ = ("pairs",)

    def __init__(self, element: Element, pairs: Mapping[str, str]) -> None:
        """``pairs``: name to value, both as written."""
        super().__init__(element)
        self.pairs = tuple([(key.lower().encode(), value.encode()) for key, value in pairs.items()])

    def test(self, request: RequestFacts, keep_trailing_slash: bool) -> int:
        """See `Matcher.test`."""
        headers = request.headers
        for name, wanted in self.pairs:
            values = headers.get(name)
            if values is None or (wanted and wanted not in values):
                return NO
        return YES

    def observed(self, request: RequestFacts) -> str:
        """See `Matcher.observed`."""
        return _named_values(request, [name for name, _ in self.pairs])


class HeadersRegexpMatcher(Matcher):
    """``HeadersRegexp``: each named header has a line in which its expression is found."""

    __slots__ = ("pairs",)

    def __init__(self, element: Element, pairs: Mapping[str, str], context: ParseContext) -> None:
        """Raises `ExpressionError` for a bad expression, and `BudgetError`."""
        super().__init__(element)
        compiled = []
        for key, value in pairs.items():
            try:
                compiled.append((key.lower().encode(), context.expression(value)))
            except ExpressionError as error:
                raise ExpressionError(f"bad expression {shorten(value)!r}: {error}") from None
        self.pairs = tuple(compiled)

    def test(self, request: RequestFacts, keep_trailing_slash: bool) -> int:
        """See `Matcher.test`."""
        headers = request.headers
        for name, expression in self.pairs:
            for value in headers.get(name, ()):
                if expression.matches(value):
                    break
            else:
                return NO
        return YES

    def observed(self, request: RequestFacts) -> str:
        """See `Matcher.observed`."""
        return _named_values(request, [name for name, _ in self.pairs])


class QueryMatcher(Matcher):
    """``Query``: for each pair the first value of the parameter fits.

    ``pairs`` holds (parameter, literal value or None, expression over ``parameter=value`` or None).
    """

    __slots__ = ("pairs", "satisfiable")

    def __init__(
        self, element: Element, pairs: Sequence[tuple[str, str]], context: ParseContext
    ) -> None:
        """``pairs``: name and value, as written. Raises `BudgetError`."""
        super().__init__(element)
        compiled: list[tuple[bytes, bytes | None, Expression | None]] = []
        self.satisfiable = True
        for key, value in pairs:
            try:
                template = context.template(f"{key}={value}", QUERY_VARIABLE, query=True)
                if template.literal is None or not value:
                    after = QUERY_VARIABLE + "$" if not value else "$"
                    compiled.append((key.encode(), None, context.compile(template, "^", after)))
                else:
                    compiled.append((key.encode(), value.encode(), None))
            except TemplateError as error:
                self.satisfiable = False
                context.warnings.append(f"`Query`: {error}: the frontend matches nothing")
        self.pairs = tuple(compiled)

    def test(self, request: RequestFacts, keep_trailing_slash: bool) -> int:
        """See `Matcher.test`."""
        if not self.satisfiable:
            return NO
        values = request.query_values
        for name, wanted, expression in self.pairs:
            value = values.get(name)
            if value is None:
                return NO
            if expression is not None:
                if not expression.matches(name + b"=" + value):
                    return NO
            elif value != wanted:
                return NO
        return YES

    def observed(self, request: RequestFacts) -> str:
        """See `Matcher.observed`."""
        values = request.query_values
        names = [name for name, _, _ in self.pairs]
        return "&".join(
            f"{_text(name)}={_text(values[name])}" if name in values else f"({_text(name)} absent)"
            for name in names
        )


def _named_values(request: RequestFacts, names: Sequence[bytes]) -> str:
    shown = []
    for name in names:
        values = request.headers.get(name)
        text = "(absent)" if values is None else " | ".join(_text(value) for value in values)
        shown.append(f"{_text(name)}: {text}")
    return ", ".join(shown)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
