"""From the options of frontends and entry points to middlewares, in the order in which a request
meets them (specification sections 5.1 and 5.2).

The supervisor builds them too, only to learn whether they can be built.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

import msgspec

from kvproxy.middleware.basic_auth import BasicAuth
from kvproxy.middleware.compress import Compress
from kvproxy.middleware.digest_auth import DigestAuth
from kvproxy.middleware.fetching import FetchError
from kvproxy.middleware.forward_auth import ForwardAuth
from kvproxy.middleware.headers import CustomRequestHeaders, CustomResponseHeaders
from kvproxy.middleware.redirect import (
    RedirectByExpression,
    RedirectToEntryPoint,
    entry_point_target,
)
from kvproxy.middleware.security_headers import SecurityChecks, SecurityResponseHeaders
from kvproxy.middleware.white_list import IpWhiteList
from kvproxy.model.listening import split_addresses
from kvproxy.model.problem import nearest_name

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from kvproxy.middleware.contract import Middleware
    from kvproxy.middleware.fetching import Fetch, Fetched, Fetches
    from kvproxy.middleware.redirect import EntryPointTarget
    from kvproxy.model.dynamic import (
        Auth,
        Frontend,
        Headers,
        PassTLSClientCert,
        Redirect,
        WhiteList,
    )
    from kvproxy.model.static import EntryPoint

    Kind: TypeAlias = Callable[..., Middleware]
    Made: TypeAlias = Iterator[Middleware]


class OptionError(ValueError):
    """An option cannot be put into effect; ``path`` names it below its frontend or entry point."""

    def __init__(self, path: str, reason: str, expected: str = "", nearest: str = "") -> None:
        """``reason``: without secrets; ``expected``, ``nearest``: see `Problem`."""
        super().__init__(reason)
        self.path = path
        self.expected = expected
        self.nearest = nearest


class Builder:
    """Makes the middlewares of one entry point and of the frontends on it.

    The same settings give the same object while anybody uses it, so that its state outlives
    changes of everything else.
    """

    def __init__(
        self,
        name: str,
        entry_points: Mapping[str, EntryPoint],
        fetches: Fetches,
        resolver: Middleware | None = None,
    ) -> None:
        """``name``: of the entry point; ``entry_points``: all, to which redirects may lead;
        ``resolver``: of the names of hosts, the last stage before the routes."""
        self._name = name
        self._resolver = resolver
        self._entry_points = entry_points
        self._fetches = fetches
        self._made: WeakValueDictionary[tuple[Kind, bytes], Middleware] = WeakValueDictionary()

    def use(self, entry_points: Mapping[str, EntryPoint]) -> None:
        """Take other entry points; what their change does not touch is kept."""
        self._entry_points = entry_points

    def entry_point(self) -> tuple[Middleware, ...]:
        """Return the middlewares of the entry point; raises `OptionError`."""
        return tuple(chain.from_iterable(self._entry_point_parts()))

    def protection(self) -> tuple[Middleware, ...]:
        """Return those of the entry point's middlewares that keep somebody out; raises
        `OptionError`."""
        return tuple(chain.from_iterable(self._protecting_parts(self._entry_points[self._name])))

    def entry_point_errors(self) -> Iterator[OptionError]:
        """Yield what keeps `entry_point` from being built."""
        return _errors(self._entry_point_parts())

    def frontend(self, options: Frontend) -> tuple[Middleware, ...]:
        """Return the middlewares of a frontend; raises `OptionError`.

        Those of its backend and the limits come behind them.
        """
        return tuple(chain.from_iterable(self._frontend_parts(options)))

    def frontend_errors(self, options: Frontend) -> Iterator[OptionError]:
        """Yield what keeps the middlewares of a frontend from being built."""
        return _errors(self._frontend_parts(options))

    def _entry_point_parts(self) -> tuple[Made, ...]:
        options = self._entry_points[self._name]
        auth, white_list = self._protecting_parts(options)
        return (
            self._redirect(options.redirect),
            auth,
            self._compress(options.compress),
            white_list,
            iter(() if self._resolver is None else (self._resolver,)),
        )

    def _protecting_parts(self, options: EntryPoint) -> tuple[Made, Made]:
        deprecated = options.white_list_source_range
        return (
            self._auth(options.auth),
            self._white_list(options.white_list, deprecated, "whiteListSourceRange"),
        )

    def _frontend_parts(self, options: Frontend) -> tuple[Made, ...]:
        deprecated = options.whitelist_source_range
        return (
            self._white_list(options.white_list, deprecated, "whitelistSourceRange"),
            self._redirect(options.redirect),
            self._headers(options.headers),
            self._basic_auth(options.basic_auth),
            self._own_certificate(options.pass_tls_cert),
            self._client_certificate(options.pass_tls_client_cert),
            self._auth(options.auth),
        )

    def _get(self, kind: Kind, path: str, settings: object, *arguments: Any, **named: Any) -> Made:
        """Make a middleware of its settings, or find the one that was made of the same."""
        key = (kind, msgspec.msgpack.encode(settings))
        made = self._made.get(key)
        if made is None:
            with _naming(path):
                made = self._made[key] = kind(*arguments, **named)
        yield made

    def _compress(self, wanted: bool) -> Made:
        if wanted:
            yield from self._get(Compress, "compress", wanted)

    def _white_list(
        self, section: WhiteList | None, deprecated: tuple[str, ...], deprecated_path: str
    ) -> Made:
        """An empty list is none at all (specification section 1.3)."""
        path, listed, forwarded = deprecated_path, deprecated, False
        if section is not None and section.source_range:
            path, listed = "whiteList.sourceRange", section.source_range
            forwarded = section.use_x_forwarded_for
        if listed:
            settings = (listed, forwarded)
            yield from self._get(IpWhiteList, path, settings, listed, use_x_forwarded_for=forwarded)

    def _redirect(self, options: Redirect | None) -> Made:
        """A redirect of an entry point to itself is none (specification section 9.6)."""
        if options is None or options.entry_point == self._name:
            return
        permanent = options.permanent
        if options.entry_point:
            target = self._target(options.entry_point)
            yield from self._get(
                RedirectToEntryPoint,
                "redirect.entryPoint",
                (target, permanent),
                target,
                permanent=permanent,
            )
        elif options.regex:
            yield from self._get(
                RedirectByExpression,
                "redirect.regex",
                options,
                options.regex,
                options.replacement,
                permanent=permanent,
            )

    def _target(self, name: str) -> EntryPointTarget:
        point = self._entry_points.get(name)
        if point is None:
            known = self._entry_points
            raise OptionError(
                "redirect.entryPoint",
                f"no entry point is named `{name}`",
                f"one of {', '.join(sorted(known))}",
                nearest_name(name, known),
            )
        with _naming("redirect.entryPoint"):
            return entry_point_target(
                split_addresses(point.address)[0], secure=point.tls is not None
            )

    def _headers(self, options: Headers | None) -> Made:
        if options is None:
            return
        if options.custom_request_headers:
            custom = options.custom_request_headers
            yield from self._get(
                CustomRequestHeaders, "headers.customRequestHeaders", custom, custom
            )
        if SecurityChecks.needed(options):
            yield from self._get(SecurityChecks, "headers", options, options)
        # Answers pass in the opposite order: a custom header wins over a security header.
        if options.custom_response_headers:
            custom = options.custom_response_headers
            yield from self._get(
                CustomResponseHeaders, "headers.customResponseHeaders", custom, custom
            )
        if SecurityResponseHeaders.needed(options):
            yield from self._get(SecurityResponseHeaders, "headers", options, options)

    def _basic_auth(self, users: tuple[str, ...]) -> Made:
        if users:
            yield from self._get(BasicAuth, "basicAuth", users, users)

    def _own_certificate(self, wanted: bool) -> Made:
        """No stage, but a condition: without TLS the entry point has no certificate to show."""
        if wanted and self._entry_points[self._name].tls is None:
            raise OptionError(
                "passTLSCert",
                f"the entry point `{self._name}` has no TLS",
                "an entry point with TLS",
            )
        yield from ()

    def _client_certificate(self, options: PassTLSClientCert | None) -> Made:
        if options is not None:
            # Imported when used: in the supervisor it takes a tenth of a start.
            from kvproxy.middleware.client_certificate import (  # noqa: PLC0415
                PassClientCertificate,
            )

            yield from self._get(PassClientCertificate, "passTLSClientCert", options, options)

    def _auth(self, options: Auth | None) -> Made:
        """The first of basic, digest and forward that is set is used."""
        if options is None:
            return
        field = options.header_field
        for kind, path, users in (
            (BasicAuth, "auth.basic", options.basic),
            (DigestAuth, "auth.digest", options.digest),
        ):
            if users is not None:
                yield from self._get(
                    kind,
                    path,
                    (users, field),
                    users.users,
                    users.users_file,
                    remove_header=users.remove_header,
                    header_field=field,
                )
                return
        forward = options.forward
        if forward is None:
            raise OptionError(
                "auth", "names no way to authenticate", "one of basic, digest, forward"
            )
        yield from self._get(ForwardAuth, "auth.forward", forward, forward, self._fetches)


def _errors(parts: Iterable[Made]) -> Iterator[OptionError]:
    for part in parts:
        try:
            for _ in part:
                pass
        except OptionError as error:
            yield error


def no_fetches(address: str, tls: ssl.SSLContext | None) -> Fetch:
    """Stand in where middlewares are only built to see whether they can be."""
    return _no_fetch


async def _no_fetch(head: bytes) -> Fetched:
    raise FetchError("nothing can be asked here")


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Give what is wrong the name of its option."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise OptionError(path, str(error)) from None
