"""Which options have an effect now, and which are accepted but not active yet: data, in one place.

Options are named by their dotted path with ``*`` for a name that the user chose; an entry covers
everything below it.
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
        "accessLog",
        "accessLogsFile",
        "allowMinWeightZero",
        "allowUnsafePaths",
        "boltdb.endpoint",
        "boltdb.prefix",
        "boltdb.watch",
        "announce",
        "api.entryPoint",
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
        "http2",
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
        "metrics.prometheus.entryPoint",
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
        "frontends.*.passTLSCert",
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


def _sections(options: frozenset[str]) -> frozenset[str]:
    """Return the names of the sections that ``options`` stand in."""
    paths = [option.split(".") for option in options]
    return frozenset(".".join(path[:length]) for path in paths for length in range(1, len(path)))


_ACTIVE = ACTIVE_STATIC | ACTIVE_DYNAMIC
_ACTIVE_SECTIONS = _sections(_ACTIVE)


def covered(path: Sequence[str], options: frozenset[str]) -> bool:
    """Tell whether ``path`` (``*`` for user-chosen names) or a parent of it is in ``options``."""
    return any(".".join(path[:length]) in options for length in range(1, len(path) + 1))


def is_active(path: Sequence[str]) -> bool:
    """Tell whether the option ``path`` (``*`` for user-chosen names) has an effect.

    A section counts as active when something below it is.
    """
    return ".".join(path) in _ACTIVE_SECTIONS or covered(path, _ACTIVE)


def inactive_options(entry: Frontend | Backend) -> tuple[str, ...]:
    """Return the options, below the entry, that it uses (not the default) and that are not active.

    Sections without any active option are reported as a whole, once. Cheap for entries that use
    none.
    """
    section = "frontends" if isinstance(entry, Frontend) else "backends"
    found: list[str] = []
    _collect(entry, (section, "*"), (), found)
    return tuple(found)


@cache
def _inspected(section: type[Struct], pattern: tuple[str, ...]) -> tuple[Any, ...]:
    """Return (attribute, name, default, whether to look below) of each option that matters."""
    inspected: list[tuple[str, str, Any, bool]] = []
    for option in fields_of(section):
        path = (*pattern, option.encode_name)
        if covered(path, ACTIVE_DYNAMIC):
            continue
        default = option.default
        if default is NODEFAULT and option.default_factory is not NODEFAULT:
            default = option.default_factory()
        bare, _, _ = describe(option.type)
        is_section = isinstance(bare, type) and issubclass(bare, Struct)
        nested = is_section or getattr(bare, "__origin__", None) is dict
        inspected.append((option.name, option.encode_name, default, nested and is_active(path)))
    return tuple(inspected)


def _collect(
    section: Struct, pattern: tuple[str, ...], path: tuple[str, ...], found: list[str]
) -> None:
    for attribute, name, default, below in _inspected(type(section), pattern):
        value = getattr(section, attribute)
        if value == default:
            continue
        here = (*path, name)
        if not below:
            found.append(".".join(here))
        elif isinstance(value, dict):
            for key, item in value.items():
                _collect(item, (*pattern, name, "*"), (*here, key), found)
        else:
            _collect(value, (*pattern, name), here, found)
