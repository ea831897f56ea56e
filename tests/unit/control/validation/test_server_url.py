from __future__ import annotations

import pytest

from kvproxy.control.validation.server_url import server_url_problems

LOADS = [
    "http://10.0.0.1:80",
    "http://10.0.0.1",
    "https://server.example.com:8443/",
    "HTTP://server",
    "http://under_score:8080",
    "http://[::1]:8080",
    "http://[fe80::1%25eth0]:80",
    "http://server:80/a/path?with=query#fragment",
    "http://server/with%20escape/and space",
    "http://server:",
    "ws://server:80",
    "wss://server",
    "http://server:65535",
]

WARNS = {
    "E02-port-above-65535": ("http://127.0.0.1:8989474", "65535"),
    "port-of-many-digits": ("http://server:" + "9" * 5000, "65535"),
    "E08-scheme-ftp": ("ftp://server:21", "500"),
    "scheme-h3": ("h3://server:80", "500"),
    "user": ("http://name:secret@server:80", "not sent"),
}

REFUSED = {
    "empty": "",
    "no-scheme": "10.0.0.1:80",
    "host-only": "server",
    "scheme-only": "http://",
    "no-host": "http://:8080",
    "one-slash": "http:/server",
    "bad-scheme": "1http://server",
    "port-not-a-number": "http://server:http",
    "port-negative": "http://server:-1",
    "port-in-other-digits": "http://server:\u0668\u0660",
    "two-ports": "http://server:80:90",
    "address-without-brackets": "http://::1:80",
    "open-bracket": "http://[::1",
    "name-in-brackets": "http://[server]:80",
    "blank-in-host": "http://ser ver:80",
    "line-break-in-host": "http://server\r\nX: y:80",
    "line-break-in-path": "http://server/\r\nX: y",
    "zero": "http://ser\0ver",
    "not-ascii": "http://s\xe9rver",
    "broken-escape": "http://server/%zz",
    "space-before": " http://server",
}


@pytest.mark.parametrize("url", LOADS)
def test_loads(url: str) -> None:
    assert server_url_problems(url, "url") == ()


@pytest.mark.parametrize(("url", "says"), WARNS.values(), ids=WARNS)
def test_loads_with_a_warning(url: str, says: str) -> None:
    (problem,) = server_url_problems(url, "url")
    assert not problem.fatal
    assert says in problem.message
    assert problem.path == "url"


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED)
def test_is_refused(url: str) -> None:
    (problem,) = server_url_problems(url, "url")
    assert problem.fatal
    assert "http://10.0.0.7:8080" in problem.expected


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@server", "http://user:hunter2@", "ftp://user:hunter2@server:x"]
)
def test_never_repeats_a_password(url: str) -> None:
    problems = server_url_problems(url, "url")
    assert problems
    assert "hunter2" not in "".join(map(str, problems))
