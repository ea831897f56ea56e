"""Which options have an effect now, and which are accepted but not active yet: data, in one place.

Options are named by their dotted path with ``*`` for a name that the user chose; an entry covers
everything below it. An option with a bearing on security that is not active must not be passed
over, for whoever uses it expects a door to be closed: the consumer refuses the entry, or the start.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import NODEFAULT, Struct

from kvproxy.model.dynamic import Backend, Frontend
from kvproxy.model.kinds import describe, fields_of

if TYPE_CHECKING:
    from collections.abc import Sequence

ACTIVE_STATIC = frozenset(
    {
        "allowMinWeightZero",
        "allowUnsafePaths",
        "boltdb.endpoint",
        "boltdb.prefix",
        "boltdb.watch",
        "announce",
        "configFile",
        "consul.endpoint",
        "consul.prefix",
        "consul.tls",
        "consul.token",
        "consul.watch",
        "debug",
        "defaultEntryPoints",
        "embedded",
        "entryPoints.*.address",
        "entryPoints.*.auth",
        "entryPoints.*.compress",
        "entryPoints.*.forwardedHeaders",
        "entryPoints.*.proxyProtocol",
        "entryPoints.*.redirect",
        "entryPoints.*.tls",
        "entryPoints.*.whiteList",
        "entryPoints.*.whiteListSourceRange",
        "etcd.endpoint",
        "etcd.password",
        "etcd.prefix",
        "etcd.tls",
        "etcd.useAPIV3",
        "etcd.username",
        "etcd.watch",
        "file",
        "forwardingTimeouts",
        "graceTimeOut",
        "hostResolver",
        "healthcheck",
        "idleTimeout",
        "insecureSkipVerify",
        "keepTrailingSlash",
        "lifeCycle",
        "logLevel",
        "massDeletionGuard",
        "maxHeaderBytes",
        "maxHeaders",
        "maxIdleConnsPerHost",
        "nodeName",
        "pidFile",
        "ping",
        "providersThrottleDuration",
        "respondingTimeouts",
        "retry",
        "rootCAs",
        "stateDir",
        "workers",
        "zookeeper.endpoint",
        "zookeeper.password",
        "zookeeper.prefix",
        "zookeeper.tls",
        "zookeeper.username",
        "zookeeper.watch",
    }
)
"""Static options that have an effect."""

SECURITY_STATIC: frozenset[str] = frozenset()
"""Static options that must not be passed over while they are not active."""

ACTIVE_DYNAMIC = frozenset(
    {
        "backends.*.buffering",
        "backends.*.circuitBreaker",
        "backends.*.healthCheck",
        "backends.*.loadBalancer",
        "backends.*.maxConn",
        "backends.*.responseForwarding",
        "backends.*.servers.*.drain",
        "backends.*.servers.*.url",
        "backends.*.servers.*.weight",
        "frontends.*.auth",
        "frontends.*.backend",
        "frontends.*.basicAuth",
        "frontends.*.entryPoints",
        "frontends.*.errors",
        "frontends.*.headers",
        "frontends.*.passHostHeader",
        "frontends.*.passTLSClientCert",
        "frontends.*.priority",
        "frontends.*.ratelimit",
        "frontends.*.redirect",
        "frontends.*.routes",
        "frontends.*.whiteList",
        "frontends.*.whitelistSourceRange",
        "tls",
    }
)
"""Dynamic options that have an effect."""

SECURITY_DYNAMIC = frozenset(
    {
        "frontends.*.passTLSCert",
    }
)
"""Dynamic options that must not be passed over while they are not active."""


def _sections(options: frozenset[str]) -> frozenset[str]:
    """Return the names of the sections that ``options`` stand in."""
    paths = [option.split(".") for option in options]
    return frozenset(".".join(path[:length]) for path in paths for length in range(1, len(path)))


_ACTIVE = ACTIVE_STATIC | ACTIVE_DYNAMIC
_ACTIVE_SECTIONS = _sections(_ACTIVE)
_SECURITY_SECTIONS = _sections(SECURITY_DYNAMIC)


class InactiveOption(Struct, frozen=True):
    """An option that is used and not active: its path below the entry, and what that means."""

    option: str
    security: bool


def covered(path: Sequence[str], options: frozenset[str]) -> bool:
    """Tell whether ``path`` (``*`` for user-chosen names) or a parent of it is in ``options``."""
    return any(".".join(path[:length]) in options for length in range(1, len(path) + 1))


def is_active(path: Sequence[str]) -> bool:
    """Tell whether the option ``path`` (``*`` for user-chosen names) has an effect.

    A section counts as active when something below it is.
    """
    return ".".join(path) in _ACTIVE_SECTIONS or covered(path, _ACTIVE)


def is_security(path: Sequence[str]) -> bool:
    """Tell whether the option ``path`` must not be passed over while it is not active."""
    return covered(path, SECURITY_STATIC) or covered(path, SECURITY_DYNAMIC)


def inactive_options(entry: Frontend | Backend) -> tuple[InactiveOption, ...]:
    """Return the options that ``entry`` uses (differs from the default) and that are not active.

    Sections without any active option are reported as a whole, once. Cheap for entries that use
    none.
    """
    section = "frontends" if isinstance(entry, Frontend) else "backends"
    found: list[InactiveOption] = []
    _collect(entry, (section, "*"), (), found)
    return tuple(found)


@cache
def _inspected(section: type[Struct], pattern: tuple[str, ...]) -> tuple[Any, ...]:
    """Return (attribute, name, default, verdict) of each option that has to be looked at.

    The verdict is True or False (inactive: security or not), or None (look at what is below).
    """
    inspected: list[tuple[str, str, Any, bool | None]] = []
    for option in fields_of(section):
        path = (*pattern, option.encode_name)
        if covered(path, ACTIVE_DYNAMIC):
            continue
        default = option.default
        if default is NODEFAULT and option.default_factory is not NODEFAULT:
            default = option.default_factory()
        bare, _, _ = describe(option.type)
        nested = is_active(path) or ".".join(path) in _SECURITY_SECTIONS
        is_section = isinstance(bare, type) and issubclass(bare, Struct)
        if nested and (is_section or getattr(bare, "__origin__", None) is dict):
            inspected.append((option.name, option.encode_name, default, None))
        else:
            inspected.append((option.name, option.encode_name, default, is_security(path)))
    return tuple(inspected)


def _collect(
    section: Struct, pattern: tuple[str, ...], path: tuple[str, ...], found: list[InactiveOption]
) -> None:
    for attribute, name, default, verdict in _inspected(type(section), pattern):
        value = getattr(section, attribute)
        if value == default:
            continue
        here = (*path, name)
        if verdict is not None:
            found.append(InactiveOption(".".join(here), verdict))
        elif isinstance(value, dict):
            for key, item in value.items():
                _collect(item, (*pattern, name, "*"), (*here, key), found)
        else:
            _collect(value, (*pattern, name), here, found)
