"""Reads the rules of a frontend: ``{"main": "Host:example.com;PathPrefix:/x"}``.

All elements of all routes must match. What Traefik 1.7 refuses raises `RuleError`; what it loads
although a value can never match loads here as well, with a warning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from kvproxy.model.problem import nearest_name
from kvproxy.rules.context import MAX_INSTRUCTIONS, BudgetError, ParseContext
from kvproxy.rules.errors import RuleError, shorten
from kvproxy.rules.expressions import ExpressionError, Replacement
from kvproxy.rules.lexer import MAX_RULE_BYTES, Element, elements
from kvproxy.rules.matchers import (
    HeadersMatcher,
    HeadersRegexpMatcher,
    HostMatcher,
    HostRegexpMatcher,
    Matcher,
    MethodMatcher,
    PathMatcher,
    QueryMatcher,
)
from kvproxy.rules.modifiers import NO_MODIFIERS, Modifiers, has_dot_segment, with_slash
from kvproxy.rules.templates import PATH_VARIABLE, TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kvproxy.rules.expressions import Expression


class FrontendRule(Struct, frozen=True, gc=False):
    """All routes of one frontend, compiled.

    ``elements``: every element as written, routes by name; ``matchers`` must all say yes, none
    means every request; ``length``: summed bytes of the raw rules, the priority of a frontend that
    sets none; ``warnings``: what loads but does not do what it seems to.
    """

    elements: tuple[Element, ...]
    matchers: tuple[Matcher, ...]
    modifiers: Modifiers
    length: int
    warnings: tuple[str, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The literal names of the ``Host`` elements in canonical form, () when there is none."""
        return tuple(
            host.decode()
            for matcher in self.matchers
            if isinstance(matcher, HostMatcher)
            for host in matcher.hosts
        )


def parse_rules(routes: Mapping[str, str]) -> FrontendRule:
    """Return the compiled rules of a frontend, given its routes by name; raises `RuleError`."""
    builder = _Builder()
    length = 0
    for route in routes if len(routes) == 1 else sorted(routes):
        rule = routes[route]
        try:
            length += _byte_length(rule)
            for element in elements(rule):
                builder.add(rule, element)
        except RuleError as error:
            error.route = route
            raise
    return builder.build(length)


def _byte_length(rule: str) -> int:
    try:
        length = len(rule) if rule.isascii() else len(rule.encode())
    except UnicodeEncodeError as error:
        raise RuleError("not valid Unicode", rule=rule, position=error.start) from None
    if length > MAX_RULE_BYTES:
        raise RuleError(
            f"the rule is {length} bytes long",
            rule=rule,
            expected=f"at most {MAX_RULE_BYTES} bytes",
        )
    return length


class _Builder:
    """Collects the elements of a frontend's routes."""

    __slots__ = (
        "add_prefix",
        "context",
        "elements",
        "matchers",
        "replace_expression",
        "replace_path",
        "strip_templates",
        "strips",
    )

    def __init__(self) -> None:
        self.elements: list[Element] = []
        self.matchers: list[Matcher] = []
        self.context = ParseContext()
        self.strips: tuple[bytes, ...] | None = None
        self.strip_templates: tuple[Expression, ...] | None = None
        self.add_prefix = ""
        self.replace_path = ""
        self.replace_expression: Replacement | None = None

    def add(self, rule: str, element: Element) -> None:
        """Take one element of ``rule``; raises `RuleError`."""
        try:
            take = _ELEMENTS[element.name]
        except KeyError:
            raise RuleError(
                f"unknown matcher {shorten(element.name)!r}",
                rule=rule,
                position=element.position,
                expected="one of " + ", ".join(NAMES),
                nearest=nearest_name(element.name, NAMES),
            ) from None
        if not element.values:
            raise RuleError(
                f"`{element.name}` has no value",
                rule=rule,
                position=element.position,
                expected=f"`{element.name}:value`",
            )
        self.elements.append(element)
        try:
            take(self, element)
        except _RefusedError as refused:
            raise RuleError(
                f"`{element.name}`: {refused.message}",
                rule=rule,
                position=element.position,
                expected=refused.expected,
            ) from None
        except BudgetError as error:
            raise RuleError(
                f"`{element.name}`: {error}",
                rule=rule,
                position=element.position,
                expected=f"at most {MAX_INSTRUCTIONS} RE2 instructions",
            ) from None
        except ExpressionError as error:
            raise RuleError(
                f"`{element.name}`: {error}",
                rule=rule,
                position=element.position,
                expected="an RE2 expression",
            ) from None

    def host(self, element: Element) -> None:
        self.matchers.append(HostMatcher(element, self.context))

    def host_regexp(self, element: Element) -> None:
        self.matchers.append(HostRegexpMatcher(element, self.context))

    def path(self, element: Element) -> None:
        self.matchers.append(PathMatcher(element, True, self.context))

    def path_prefix(self, element: Element) -> None:
        self.matchers.append(PathMatcher(element, False, self.context))

    def path_strip(self, element: Element) -> None:
        self._strip(element)
        self.path(element)

    def path_prefix_strip(self, element: Element) -> None:
        self._strip(element)
        self.path_prefix(element)

    def path_strip_regex(self, element: Element) -> None:
        self._strip_template(element)
        self.path(element)

    def path_prefix_strip_regex(self, element: Element) -> None:
        self._strip_template(element)
        self.path_prefix(element)

    def method(self, element: Element) -> None:
        self.matchers.append(MethodMatcher(element))

    def headers(self, element: Element) -> None:
        self.matchers.append(HeadersMatcher(element, self._pairs(element)))

    def headers_regexp(self, element: Element) -> None:
        self.matchers.append(HeadersRegexpMatcher(element, self._pairs(element), self.context))

    def query(self, element: Element) -> None:
        parts = [part for value in element.values for part in value.split("=")]
        if len(parts) % 2:
            raise _RefusedError(
                f"{len(parts)} parts do not make pairs", "`key=value`, several separated by `,`"
            )
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        self.matchers.append(QueryMatcher(element, pairs, self.context))

    def add_prefix_element(self, element: Element) -> None:
        self.add_prefix = self._target(element)

    def replace_path_element(self, element: Element) -> None:
        self.replace_path = self._target(element)

    def replace_path_regex(self, element: Element) -> None:
        self.replace_expression = None
        value = self._last(element)
        pieces = value.split(" ")
        if len(pieces) != 2:
            self.context.warnings.append(
                f"`{element.name}`: {shorten(value)!r} does nothing: "
                "expression and replacement are separated by exactly one space"
            )
            return
        try:
            self.replace_expression = self.context.count(Replacement(pieces[0], pieces[1]))
        except ExpressionError as error:
            self.context.warnings.append(
                f"`{element.name}`: {shorten(value)!r} does nothing: {error}"
            )

    def build(self, length: int) -> FrontendRule:
        """Return everything that was added."""
        return FrontendRule(
            tuple(self.elements),
            tuple(self.matchers),
            self._modifiers(),
            length,
            tuple(self.context.warnings),
        )

    def _modifiers(self) -> Modifiers:
        if (
            self.strips is None
            and self.strip_templates is None
            and not self.add_prefix
            and not self.replace_path
            and self.replace_expression is None
        ):
            return NO_MODIFIERS
        return Modifiers(
            strip_template=self.strip_templates is not None,
            strip_templates=self.strip_templates or (),
            strip=self.strips is not None,
            strips=self.strips or (),
            add_prefix=self.add_prefix.encode(),
            replace_expression=self.replace_expression,
            replace_path=self.replace_path.encode(),
        )

    def _strip(self, element: Element) -> None:
        values = [value.encode() for value in element.values if value]
        self.strips = tuple(sorted(values, key=len, reverse=True))
        for value in element.values:
            if "{" in value:
                self.context.warnings.append(
                    f"`{element.name}`: {value!r} matches as a template, but only its literal "
                    f"text is stripped: use `{element.name}Regex`"
                )

    def _strip_template(self, element: Element) -> None:
        compiled = []
        for value in sorted(element.values, key=lambda text: len(text.encode()), reverse=True):
            try:
                if value.startswith("/"):
                    template = self.context.template(value, PATH_VARIABLE)
                    compiled.append(self.context.compile(template, "^"))
            except TemplateError:
                continue  # the matcher of the same element warns
        self.strip_templates = tuple(compiled)

    def _target(self, element: Element) -> str:
        value = self._last(element)
        if not value:
            self.context.warnings.append(f"`{element.name}`: an empty value does nothing")
            return ""
        if not value.startswith("/"):
            self.context.warnings.append(f"`{element.name}`: {value!r} is taken as {'/' + value!r}")
            value = "/" + value
        if has_dot_segment(with_slash(value.encode())):
            self.context.warnings.append(
                f"`{element.name}`: {value!r} has a dot segment: every request is answered with 404"
            )
        return value

    def _last(self, element: Element) -> str:
        if len(element.values) > 1:
            self.context.warnings.append(
                f"`{element.name}`: of {len(element.values)} values separated by `,` "
                "only the last is used"
            )
        return element.values[-1]

    def _pairs(self, element: Element) -> dict[str, str]:
        values = element.values
        if len(values) % 2:
            raise _RefusedError(
                f"{len(values)} values do not make pairs",
                f"`{element.name}:name,value`, several pairs separated by `,`",
            )
        return dict(zip(values[::2], values[1::2], strict=True))


class _RefusedError(Exception):
    """An element that the reference product refuses."""

    def __init__(self, message: str, expected: str) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected


_ELEMENTS: dict[str, Callable[[_Builder, Element], None]] = {
    "Host": _Builder.host,
    "HostRegexp": _Builder.host_regexp,
    "Path": _Builder.path,
    "PathStrip": _Builder.path_strip,
    "PathStripRegex": _Builder.path_strip_regex,
    "PathPrefix": _Builder.path_prefix,
    "PathPrefixStrip": _Builder.path_prefix_strip,
    "PathPrefixStripRegex": _Builder.path_prefix_strip_regex,
    "Method": _Builder.method,
    "Headers": _Builder.headers,
    "HeadersRegexp": _Builder.headers_regexp,
    "Query": _Builder.query,
    "AddPrefix": _Builder.add_prefix_element,
    "ReplacePath": _Builder.replace_path_element,
    "ReplacePathRegex": _Builder.replace_path_regex,
}

NAMES = tuple(_ELEMENTS)
"""The names of all elements; their case counts."""
