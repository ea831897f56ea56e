"""From merged settings to the effective ones: fix-ups, and checks that need more than one option.

Works on the plain document of option names, before it becomes a `StaticConfiguration`. The fix-ups
are those of Traefik 1.7 that concern active options.
"""

from __future__ import annotations

import pathlib
import re
from functools import cache
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import msgspec

from kvproxy.config.access_log import check_access_log
from kvproxy.config.options import ANY, options
from kvproxy.model.listening import split_addresses
from kvproxy.model.problem import nearest_name
from kvproxy.model.schema import Report
from kvproxy.model.static import EntryPoint, HostResolver
from kvproxy.model.tls import BROKEN_SUITES, KNOWN_SUITES, VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kvproxy.config.layers import Layer
    from kvproxy.config.options import Option

Path = tuple[str, ...]

LOG_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC")
INTERNAL_ENTRY_POINT = "traefik"
"""The entry point that internal services use unless told otherwise."""
INTERNAL_ADDRESS = "127.0.0.1:8080"
"""Where it listens unless told otherwise: the API is nobody else's business."""
PING_ADDRESS = ":8080"
"""The same when it serves nothing but ping."""

EVERY_HOST = ("", "0.0.0.0", "[::]")

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:\s/]*):([0-9]{1,5})")
_JUDGING = frozenset({"auth", "redirect", "whiteList", "whiteListSourceRange"})
_REPLACED_BY_WEB = ("api", "metrics", "ping", "rest")


class Draft(Report):
    """Merged settings on their way to become effective.

    ``document``: nested plain values by option name; ``sources``: the layer of each path in it.
    ``where`` returns the place that gave an option. Problems are collected in ``problems``.
    """

    def __init__(
        self,
        document: dict[str, Any],
        sources: dict[Path, Layer],
        where: Callable[[Path], str],
        configuration_file: str | None,
    ) -> None:
        """Take over ``document`` and ``sources``, which are changed in place."""
        super().__init__(where)
        self.document = document
        self.sources = sources
        self._configuration_file = configuration_file

    def complete(self) -> None:
        """Apply the fix-ups and run the checks."""
        self._deprecated()
        self._access_log()
        self._first_entry_point()
        self._web()
        self._inactive()
        self._log_level()
        self._node_name()
        self._entry_points()
        self._file_provider()
        self._host_resolver()
        self._durations(self.document, ())

    # Fix-ups.

    def _deprecated(self) -> None:
        for old, section, new in (
            ("graceTimeOut", "lifeCycle", "graceTimeOut"),
            ("idleTimeout", "respondingTimeouts", "idleTimeout"),
        ):
            value = self.document.get(old, 0.0)
            if value > 0:
                self.add((old,), f"is deprecated; used as {section}.{new}", fatal=False)
                self.document.setdefault(section, {})[new] = value

    def _access_log(self) -> None:
        old = self.document.get("accessLogsFile")
        if old:
            self.add(("accessLogsFile",), "is deprecated; used as accessLog.filePath", fatal=False)
            self.document["accessLog"] = {"filePath": old}
            self.sources["accessLog",] = self.sources["accessLogsFile",]
        if "accessLog" in self.document and not check_access_log(self, self.document["accessLog"]):
            del self.document["accessLog"]

    def _web(self) -> None:
        web = self.document.get("web")
        if web is None:
            return
        others = [name for name in _REPLACED_BY_WEB if name in self.document]
        if others:
            self.add(("web",), f"is deprecated and ignored, because of {others[0]}", fatal=False)
            return
        self.add(("web",), "is deprecated; used as api, ping and metrics", fatal=False)
        del self.document["web"]
        self._section("ping", {})
        self._section("api", {"statistics": web["statistics"]} if "statistics" in web else {})
        if "metrics" in web:
            self._section("metrics", web["metrics"])
        point = self.document["entryPoints"].setdefault(INTERNAL_ENTRY_POINT, {})
        point.setdefault("address", web.get("address", INTERNAL_ADDRESS))
        if "auth" in web:
            point["auth"] = web["auth"]
            self.sources["entryPoints", INTERNAL_ENTRY_POINT] = self.sources["web",]
        for name in ("path", "certFile"):
            if web.get(name):
                self.add(("web", name), "has no effect", fatal=False)
        if web.get("debug"):
            self.document["debug"] = True

    def _section(self, name: str, content: dict[str, Any]) -> None:
        """Add a section that `web` stands for."""
        self.document[name] = content
        self.sources[(name,)] = self.sources["web",]

    def _first_entry_point(self) -> None:
        points = self.document.setdefault("entryPoints", {})
        if not points:
            points["http"] = {"address": ":80"}
            self.document["defaultEntryPoints"] = ["http"]

    def _node_name(self) -> None:
        name = self.document.get("nodeName", "")
        if "/" in name:
            self.add(
                ("nodeName",),
                f"`{name}` holds a slash",
                expected="a name that can be part of a key",
            )

    def _log_level(self) -> None:
        level = self.document.get("logLevel", "").upper()
        if not level:
            self.document.pop("logLevel", None)
            if self.document.get("debug"):
                self.document["logLevel"] = "DEBUG"
            return
        level = "WARN" if level == "WARNING" else level
        self.document["logLevel"] = level
        if level not in LOG_LEVELS:
            self.add(
                ("logLevel",),
                f"`{level}` is no level",
                expected=f"one of {', '.join(LOG_LEVELS)}",
                nearest=nearest_name(level, LOG_LEVELS),
            )

    def _entry_points(self) -> None:
        points: dict[str, dict[str, Any]] = self.document["entryPoints"]
        self._internal_entry_point(points)
        addresses: dict[str, str] = {}
        for name, point in points.items():
            self._address(name, point, addresses)
            forwarded = point.setdefault("forwardedHeaders", {"insecure": True})
            for text in forwarded.get("trustedIPs", ()):
                self._network(("entryPoints", name, "forwardedHeaders", "trustedIPs"), text)
            if "proxyProtocol" in point:
                self._proxy_protocol(("entryPoints", name, "proxyProtocol"), point["proxyProtocol"])
            if "tls" in point:
                self._tls(("entryPoints", name, "tls"), point["tls"])
        self._middlewares(points)
        defaults = self.document.get("defaultEntryPoints", ("http",))
        for name in defaults:
            if name not in points:
                self._unknown_entry_point(("defaultEntryPoints",), name, points)

    def _middlewares(self, points: Mapping[str, Mapping[str, Any]]) -> None:
        """Check the options by which requests are judged before they are routed."""
        judging = [name for name, point in points.items() if _JUDGING.intersection(point)]
        if not judging or any(problem.fatal for problem in self.problems):
            return
        # Imported when used: it brings the libraries of certificates and passwords.
        from kvproxy.middleware.build import Builder, no_fetches  # noqa: PLC0415

        known = msgspec.convert(points, dict[str, EntryPoint])
        for name in judging:
            redirect = known[name].redirect
            if redirect is not None and redirect.entry_point == name:
                path = ("entryPoints", name, "redirect", "entryPoint")
                self.add(path, "the entry point redirects to itself", expected="another one")
            for error in Builder(name, known, no_fetches).entry_point_errors():
                self.add(
                    ("entryPoints", name, *error.path.split(".")),
                    str(error),
                    expected=error.expected,
                    nearest=error.nearest,
                )

    def _internal_entry_point(self, points: dict[str, dict[str, Any]]) -> None:
        """Make the entry point of the internal services where it is named and not there."""
        for path, address in (
            (("api",), INTERNAL_ADDRESS),
            (("metrics", "prometheus"), INTERNAL_ADDRESS),
            (("ping",), PING_ADDRESS),
        ):
            section: Any = self.document
            for name in path:
                section = section.get(name) if section is not None else None
            if section is None:
                continue
            name = section.get("entryPoint", INTERNAL_ENTRY_POINT)
            if name == INTERNAL_ENTRY_POINT:
                points.setdefault(name, {"address": address})
            elif name not in points:
                self._unknown_entry_point((*path, "entryPoint"), name, points)

    def _unknown_entry_point(self, path: Path, name: str, points: Mapping[str, Any]) -> None:
        self.add(
            path,
            f"no entry point is named `{name}`",
            expected=f"one of {', '.join(sorted(points))}",
            nearest=nearest_name(name, points),
            fatal=False,
        )

    def _file_provider(self) -> None:
        provider = self.document.get("file")
        if provider is None or provider.get("filename") or provider.get("directory"):
            return
        if self._configuration_file is None:
            self.add(
                ("file",),
                "there is no configuration file that could hold the rules",
                expected="--file.filename, --file.directory or --configFile",
            )
        else:
            provider["filename"] = self._configuration_file

    def _host_resolver(self) -> None:
        resolver = self.document.get("hostResolver")
        if resolver is None or not resolver.get("cnameFlattening"):
            return
        path = resolver.get("resolvConfig", HostResolver().resolv_config)
        if not pathlib.Path(path).is_file():
            self.add(
                ("hostResolver", "resolvConfig"),
                f"there is no file `{path}`: hosts are taken as they are",
                expected="a file as /etc/resolv.conf",
                fatal=False,
            )

    # Checks.

    def _address(self, name: str, point: dict[str, Any], addresses: dict[str, str]) -> None:
        path = ("entryPoints", name, "address")
        address = point.get("address")
        if not address:
            self.add(path, "is required", expected="`host:port` or `:port`")
            return
        for single in split_addresses(address):
            match = _ADDRESS.fullmatch(single)
            if match is None or int(match[1]) > 65535:
                self.add(path, f"`{single}` is no address", expected="`host:port` or `:port`")
            elif other := _same_place(single, int(match[1]), addresses):
                self.add(path, f"`{single}` is also an address of `{other}`", expected="another")
            addresses[single] = name

    def _proxy_protocol(self, path: Path, section: Mapping[str, Any]) -> None:
        networks = section.get("trustedIPs", ())
        for text in networks:
            self._network((*path, "trustedIPs"), text)
        if section.get("insecure"):
            self.add((*path, "insecure"), "lets every client claim any address", fatal=False)
        elif not networks:
            self.add(path, "believes nobody", expected="trustedIPs", fatal=False)

    def _tls(self, path: Path, tls: Mapping[str, Any]) -> None:
        version = tls.get("minVersion", "")
        if version and version not in VERSIONS:
            self.add(
                (*path, "minVersion"),
                f"`{version}` is no version",
                expected=f"one of {', '.join(VERSIONS)}",
                nearest=nearest_name(version, VERSIONS),
            )
        suites = tls.get("cipherSuites", ())
        for name in suites:
            if name not in KNOWN_SUITES:
                self.add(
                    (*path, "cipherSuites"),
                    f"`{name}` is no cipher suite",
                    expected="names such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                    nearest=nearest_name(name, KNOWN_SUITES),
                )
            elif name in BROKEN_SUITES:
                self.add((*path, "cipherSuites"), f"`{name}` is not offered any more", fatal=False)
        if suites and BROKEN_SUITES.issuperset(suites):
            self.add((*path, "cipherSuites"), "names no suite that is offered", expected="others")
        if tls.get("clientCAFiles"):
            self.add((*path, "clientCAFiles"), "is deprecated; used as clientCA.files", fatal=False)

    def _network(self, path: Path, text: str) -> None:
        try:
            ip_network(text, strict=False)
        except ValueError:
            self.add(path, f"`{text}` is no address", expected="an IP address or a network (CIDR)")

    def _durations(self, document: Mapping[str, Any], path: Path) -> None:
        for name, value in document.items():
            here = (*path, name)
            if isinstance(value, dict):
                self._durations(value, here)
            elif isinstance(value, float) and value < 0 and _option(here).kind == "duration":
                self.add(here, "is negative", expected="0 or more")

    def _inactive(self) -> None:
        reported: set[Path] = set()
        for path, value in self._given(self.document, ()):
            option = _option(path)
            above = [path[:length] for length in range(1, len(path) + 1)]
            always_there = option.section and option.default == "present"
            if option.active or always_there or reported.intersection(above):
                continue
            if not option.section and value == option.initial:
                continue
            reported.add(path)
            self.add(path, "is accepted, but not active yet: it has no effect", fatal=False)

    def _given(self, document: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
        """Yield path and value of all there is, sections before what is below them."""
        for name, value in document.items():
            here = (*path, name)
            yield here, value
            if isinstance(value, dict):
                yield from self._given(value, here)


def _same_place(address: str, port: int, others: Mapping[str, str]) -> str:
    """Return what is named in ``others`` for an address at which ``address`` is, too; else empty.

    An address without a host is at every address of the machine.
    """
    host = address.rpartition(":")[0]
    for other, name in others.items():
        other_host, _, other_port = other.rpartition(":")
        if (
            port
            and other_port == str(port)
            and (host == other_host or host in EVERY_HOST or other_host in EVERY_HOST)
        ):
            return name
    return ""


@cache
def _by_path() -> dict[Path, Option]:
    return {option.path: option for option in options()}


def _option(path: Path) -> Option:
    """Return the option of a path; names that the user chose are recognised by their parent."""
    known = _by_path()
    pattern: Path = ()
    for part in path:
        exact = (*pattern, part)
        pattern = exact if exact in known else (*pattern, ANY)
        if pattern not in known and pattern[-1] == ANY:
            parent = known.get(pattern[:-1])
            if parent is None:
                break
            if parent.kind == "map of texts":
                return parent
    found = known.get(pattern)
    return found if found is not None else known[pattern[:-1]]
