"""Is the URL of a server one that a worker can dial?"""

from __future__ import annotations

import re

from kvproxy.model.problem import Problem

EXPECTED = "scheme://host[:port], such as http://10.0.0.7:8080"

_PLAIN = re.compile(r"https?://[A-Za-z0-9._-]+(?::[0-9]{1,4})?/?", re.ASCII)
_PARTS = re.compile(
    r"""(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://
        (?:(?P<user>[^/?\#@]*)@)?
        (?P<host>\[[^]/?\#]*\]|[^:/?\#@\[\]]*)
        (?::(?P<port>[^/?\#@]*))?
        (?P<rest>[/?\#].*)?""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_BAD_ESCAPE = r"%(?![0-9A-Fa-f]{2})"
_BAD_IN_HOST = re.compile(r"[\x00-\x20\x7f\\\"<>^`{|}]|[^\x00-\x7f]|" + _BAD_ESCAPE)
_BAD_IN_PATH = re.compile(r"[\x00-\x1f\x7f]|" + _BAD_ESCAPE)
_IP6 = re.compile(r"\[[0-9A-Fa-f:.]+(?:%25[0-9A-Za-z._~-]+)?\]")
_SPOKEN = frozenset({"http", "https", "h2c", "ws", "wss"})
_MAX_PORT = 65535


def server_url_problems(url: str, path: str) -> tuple[Problem, ...]:
    """Return what is wrong with a server URL; ``path`` is the option path to name.

    Fatal is what cannot be dialled or sent as it is written. What Traefik 1.7 loads and then
    answers with an error of its own (an unknown scheme: 500, a port above 65535: 502) is a warning.
    Messages never repeat a user name or password.
    """
    if _PLAIN.fullmatch(url):
        return ()
    parts = _PARTS.fullmatch(url)
    if parts is None:
        return (_fatal("not a server URL", path),)
    host, port = parts["host"], parts["port"]
    if not host:
        return (_fatal("the server URL has no host", path),)
    if _BAD_IN_HOST.search(host) if not host.startswith("[") else not _IP6.fullmatch(host):
        return (_fatal("the host of the server URL holds a character that it cannot", path),)
    if port and not (port.isascii() and port.isdigit()):
        return (_fatal("the port of the server URL is not a number", path),)
    if parts["rest"] and _BAD_IN_PATH.search(parts["rest"]):
        return (_fatal("the path of the server URL holds a character that it cannot", path),)
    warnings = []
    if parts["user"] is not None:
        warnings.append(_warning("a user name or password in a server URL is not sent", path))
    if parts["scheme"].lower() not in _SPOKEN:
        warnings.append(
            _warning(
                f"requests to a server of scheme `{parts['scheme']}` are answered with 500",
                path,
                "http, https, h2c, or for WebSockets alone ws, wss",
            )
        )
    if port and int(port[:9]) > _MAX_PORT:
        warnings.append(
            _warning(
                "no server has a port above 65535: requests are answered with 502", path, EXPECTED
            )
        )
    return tuple(warnings)


def _fatal(message: str, path: str) -> Problem:
    return Problem(message=message, path=path, expected=EXPECTED)


def _warning(message: str, path: str, expected: str = "") -> Problem:
    return Problem(message=message, path=path, expected=expected, fatal=False)
