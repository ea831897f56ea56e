"""Differential fuzzer of the head scanner: the C implementation against its pure-Python twin.

    python -m tests.fuzz.scan --inputs 1000000 --seed 1

Heads are built from parts that matter to a proxy, half of them with care and half wildly, and many
are then mutated byte by byte. For each one the two implementations must give equal answers, and the
Python one the same when it has not seen the head before, when it takes it into its memory and when
it finds it there, also with another request line or for another request; what is refused stays
refused when more bytes come; an accepted head is incomplete at every cut-off point,
does not depend on what follows, and gives an outgoing head that is accepted again, unchanged and
free of what must not pass.
"""

import argparse
import itertools
import random
import sys
import time
from collections import Counter

from kvproxy.http import _scan, scan_pure
from kvproxy.http.flags import HEAD, HTTP10, KEEP_ALIVE, MAX_EMPTY_LINES, SPLIT, UPGRADE

GOOD_METHODS = [b"GET"] * 6 + [b"POST", b"HEAD", b"PUT", b"OPTIONS", b"TRACE", b"DELETE"]
BAD_METHODS = [b"CONNECT", b"get", b"PRI", b"NOTIFY!", b"G T", b"G(T", b"", b"\x16\x03\x01"]
GOOD_TARGETS = [
    b"/",
    b"/index.html?a=b",
    b"http://h.test/y",
    b"HTTPS://h.test:8443?q",
    b"http://h.test",
    b"/a/...",
    b"/.well-known/x",
    b"/a//b",
    b"//a",
    b"/%C3%A9%2f",
    b"/a??",
    b"/a;b=c@d:e,f!$&'()*+",
    b'/a|b<>^`{}"\\',
    b"/?<|>",
]
BAD_TARGETS = [
    b"*",
    b"http://u@h.test/",
    b"http://h.test#f",
    b"http:///x",
    b"http://h.test:99999999/",
    b"http:/h.test",
    b"ftp://h.test/",
    b"/a/../b",
    b"/./",
    b"/..",
    b"/..;x/a",
    b"/%2e%2e/",
    b"/a?",
    b"/a#b",
    b"/a?b#c",
    b"/\xe9",
    b"/?\xe9",
    b"/a b",
    b"a.test:443",
    b"",
]
BAD_VERSIONS = [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/11", b"http/1.1", b""]
GOOD_STATUS_LINES = [b"HTTP/1.1 200 OK"] * 4 + [
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 103 Early Hints",
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 599 Odd \xe9",
]
BAD_STATUS_LINES = [
    b"HTTP/1.1 099 Odd",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/2.0 200 OK",
    b"HTTP/1.1  200 OK",
    b"ICY 200 OK",
]
GOOD_FIELDS = [
    b"Content-Length: 5",
    b"content-length:0",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: Chunked \t",
    b"Connection: close",
    b"Connection: keep-alive, Upgrade",
    b"connection: Accept, cookie ,, x-forwarded-for, host, content-length",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Proxy-Authorization: Basic eA==",
    b"Te: deflate, Trailers ,",
    b"Trailer: X-A",
    b"Upgrade: h2c, WebSocket",
    b"Expect: 100-Continue",
    b"X-Forwarded-For: 1.2.3.4",
    b"x_forwarded-proto: https",
    b"X-Forwarded-",
    b"X-Real-Ip: 1.2.3.4",
    b"Content_Length: 7",
    b"Transfer_Encoding: chunked",
    b"Idempotency-Key: a",
    b"x-idempotency-key: a",
    b"Idempotency_Key: a",
    b"Date: Thu, 01 Jan 1970 00:00:00 GMT",
    b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
    b"Cookie: a=b; c=d",
    b"A:",
    b"!#$%&'*+-.^_`|~9: \xc3\xa9\xff\tb",
]
NAMES = [
    *(field.partition(b":")[0] for field in GOOD_FIELDS),
    b"Host",
    b"Proxy-Authenticate",
    b"X-Forwarded",
    b"Hos",
    b"Content-Lengt",
    b"Contentlength",
    b"",
    b"Bad Name",
]
VALUES = [
    *(field.partition(b":")[2] for field in GOOD_FIELDS),
    b"a.test:8080",
    b"[::1]:80",
    b"[::1",
    b"a.test:x",
    b"u@a.test",
    b"a,b",
    b"05",
    b"+5",
    b"-5",
    b"0x5",
    b"5_0",
    b"5, 5",
    b"123456789012345678",
    b"1234567890123456789",
    b"gzip, chunked",
    b",chunked",
    b"chunked, chunked",
    b"chunked\x85",
    b"websocket",
    b"trailers;q=1",
    b"200-ok",
    b",".join([b"n"] * 64),
    b", ,".join([b"n"] * 65),
    b"",
    b"x" * 40,
]
SEPARATORS = [b": "] * 12 + [b":", b":\t ", b" :", b"\t:", b"", b":\r\n "]
BAD_LINE_ENDS = [b"\n", b"\r", b"\r\r\n", b"\x00\r\n", b"\r\n "]
MUTATIONS = b"\r\n\x00 \t:,;_-/?#.%a1Hh\x0b\x1f\x7f\x80\x85\xa0\xff"
DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
OTHER_LINES = [
    b"GET /a/../b HTTP/1.1",
    b"POST /a HTTP/1.1",
    b"GET / HTTP/1.0",
    b"HEAD http://b.test/c HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT a.test:443 HTTP/1.1",
    b"\r\nGET / HTTP/1.1",
]
OTHER_FLAGS = [0, KEEP_ALIVE, HEAD, KEEP_ALIVE | UPGRADE, HTTP10, KEEP_ALIVE | SPLIT]
OTHER_BODIES = [b"", b"12345", b"123456", b"123", b""]


class Maker:
    """Builds heads; `wildness` is the chance that one part of the head under way is bad."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.wildness = 0.0

    def pick(self, good: list[bytes], bad: list[bytes]) -> bytes:
        return self.rng.choice(bad if self.rng.random() < self.wildness else good)

    def line_end(self) -> bytes:
        return self.rng.choice(BAD_LINE_ENDS) if self.rng.random() < self.wildness / 4 else b"\r\n"

    def fields(self) -> bytes:
        rng = self.rng
        parts = []
        for _ in range(rng.randrange(6)):
            if rng.random() < self.wildness:
                parts += [rng.choice(NAMES), rng.choice(SEPARATORS), rng.choice(VALUES)]
            else:
                parts.append(rng.choice(GOOD_FIELDS))
            parts.append(self.line_end())
        if rng.random() < 0.01:
            parts.append(b"A: b\r\n" * rng.choice([7, 8, 9, 127, 128, 255, 256, 257]))
        return b"".join(parts)

    def request(self) -> bytes:
        """A request head, good or bad, maybe with bytes behind it."""
        rng = self.rng
        self.wildness = rng.choice([0.0, 0.1, 0.4])
        version = self.pick([b"HTTP/1.1"] * 6 + [b"HTTP/1.0"], BAD_VERSIONS)
        target = self.pick(GOOD_TARGETS, BAD_TARGETS)
        line = b" ".join((self.pick(GOOD_METHODS, BAD_METHODS), target, version))
        empty = b"\r\n" * rng.choice([0] * 20 + [1, 4, 5])
        host = b"Host: a.test\r\n" if rng.random() < 1 - self.wildness / 2 else b""
        data = empty + line + self.line_end() + host + self.fields() + b"\r\n"
        if rng.random() < 0.2:
            data += rng.choice([b"body", b"\r\n", b"GET / HTTP/1.1\r\n\r\n"])
        return self.mutated(data) if rng.random() < 0.4 else data

    def response(self) -> bytes:
        """An answer's head, good or bad, maybe with body bytes."""
        rng = self.rng
        self.wildness = rng.choice([0.0, 0.1, 0.4])
        length = b"Content-Length: 5\r\n" if rng.random() < 0.4 else b""
        line = self.pick(GOOD_STATUS_LINES, BAD_STATUS_LINES) + self.line_end()
        data = line + length + self.fields() + b"\r\n"
        data += rng.choice([b"", b"12345", b"123", b"123456", b"5\r\n12345\r\n0\r\n\r\n"])
        return self.mutated(data) if rng.random() < 0.4 else data

    def mutated(self, data: bytes) -> bytes:
        """`data` with a few bytes replaced, removed, inserted or repeated."""
        rng = self.rng
        mutated = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            position = rng.randrange(len(mutated) + 1)
            match rng.randrange(4):
                case 0:
                    mutated[position : position + 1] = bytes([rng.choice(MUTATIONS)])
                case 1:
                    del mutated[position : position + rng.choice([1, 1, 1, 2, 9])]
                case 2:
                    mutated[position:position] = bytes([rng.choice(MUTATIONS)])
                case _:
                    length = rng.randrange(1, 30)
                    mutated[position:position] = mutated[position : position + length]
        return bytes(mutated)


class DifferenceError(AssertionError):
    """An input on which a property does not hold."""


def compare_requests(
    data: bytes, max_bytes: int, max_headers: int, times: int = 3
) -> int | tuple[bytes, bytes, bytes, int, int, int] | None:
    """What both implementations say to a request, the Python one ``times`` times.

    Unless ``times`` is 1 it knows nothing at first; at the third time it knows the head.
    """
    native = _scan.scan_request(data, max_bytes, max_headers)
    if times > 1:
        scan_pure.forget_heads()
    for _ in range(times):
        answer = scan_pure.scan_request(data, max_bytes, max_headers)
        if native != answer:
            raise DifferenceError(f"{data!r} {max_bytes} {max_headers}: {native!r} != {answer!r}")
    return answer


def compare_responses(
    data: bytes, flags: int, date: bytes, times: int = 3
) -> int | bytes | tuple[bytes, int, int, int, int, int] | None:
    """The same for an answer."""
    native = _scan.scan_response(data, flags, date)
    if times > 1:
        scan_pure.forget_heads()
    for _ in range(times):
        answer = scan_pure.scan_response(data, flags, date)
        if native != answer:
            raise DifferenceError(f"{data!r} {flags}: {native!r} != {answer!r}")
    return answer


def check_request(data: bytes, max_bytes: int, max_headers: int, cut: int) -> str:
    """Hold all properties for one request; the answer names the class of the outcome.

    `cut` is an offset at which the input is also cut off.
    """
    answer = compare_requests(data, max_bytes, max_headers)
    fields = data[data.find(b"\r\n", 2 * MAX_EMPTY_LINES) :]
    line = OTHER_LINES[cut % len(OTHER_LINES)]
    compare_requests(line + fields, max_bytes, max_headers, times=1)
    compare_requests(data, max_bytes, 2, times=1)
    for scan in (scan_pure.scan_request, _scan.scan_request):
        early = scan(data[:cut], max_bytes, max_headers)
        if early is not None and early != answer:
            raise DifferenceError(f"{data!r} cut at {cut}: {early!r} != {answer!r}")
    if answer is None:
        return "incomplete"
    if isinstance(answer, int):
        return str(answer)
    head, host, target, _flags, _length, end = answer
    for scan in (scan_pure.scan_request, _scan.scan_request):
        if cut < end and scan(data[:cut], max_bytes, max_headers) is not None:
            raise DifferenceError(f"prefix of {cut} bytes is not incomplete: {data!r}")
        if scan(data[:end], max_bytes, max_headers) != answer:
            raise DifferenceError(f"bytes behind the head change the answer: {data!r}")
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    forbidden = [n for n in names if n in (b"host", b"proxy-authorization", b"trailer")]
    forbidden += [n for n in names if n.replace(b"_", b"-").startswith(b"x-forwarded-")]
    if forbidden or names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
        raise DifferenceError(f"{data!r} lets pass {forbidden} in {head!r}")
    again = scan_pure.scan_request(head + b"Host: %b\r\n\r\n" % host, 1 << 20, 256)
    if not isinstance(again, tuple) or again[2] != target or again[0] != head:
        raise DifferenceError(f"outgoing head is not stable: {data!r} -> {head!r} -> {again!r}")
    return "accepted"


def check_response(data: bytes, flags: int, cut: int) -> str:
    """Hold all properties for one answer; the answer names the class of the outcome."""
    answer = compare_responses(data, flags, DATE)
    head = data[: data.find(b"\r\n\r\n") + 4]
    body, other = OTHER_BODIES[cut % len(OTHER_BODIES)], OTHER_FLAGS[cut % len(OTHER_FLAGS)]
    compare_responses(head + body, other, DATE, times=1)
    end = len(data) + 1
    if isinstance(answer, tuple):
        end = answer[3]
    elif isinstance(answer, bytes):
        end = data.index(b"\r\n\r\n") + 4
    for scan in (scan_pure.scan_response, _scan.scan_response):
        early = scan(data[:cut], flags, DATE)
        if early is not None and cut < end and early != answer:
            raise DifferenceError(f"{data!r} cut at {cut}: {early!r} != {answer!r}")
    if answer is None or isinstance(answer, int):
        return "incomplete" if answer is None else str(answer)
    return "accepted" if isinstance(answer, tuple) else "whole"


def run(seed: int, inputs: int, seconds: float | None = None) -> Counter[str]:
    """Check `inputs` heads, or as many as fit in `seconds`; counts by outcome.

    Raises DifferenceError at the first input on which a property does not hold.
    """
    rng = random.Random(seed)
    maker = Maker(rng)
    outcomes: Counter[str] = Counter()
    deadline = None if seconds is None else time.monotonic() + seconds
    for i in itertools.count():
        if i >= inputs or (deadline is not None and not i % 256 and time.monotonic() > deadline):
            break
        if i % 5 < 3:
            data = maker.request()
            max_bytes = rng.choice([65536] * 9 + [rng.randrange(1, 200)])
            max_headers = rng.choice([128] * 9 + [rng.randrange(1, 8)])
            outcome = check_request(data, max_bytes, max_headers, rng.randrange(len(data) + 1))
            outcomes["request " + outcome] += 1
        else:
            data = maker.response()
            flags = sum(f for f in (KEEP_ALIVE, HEAD, UPGRADE, HTTP10, SPLIT) if rng.getrandbits(1))
            flags = rng.choice([KEEP_ALIVE, KEEP_ALIVE | UPGRADE, flags])
            outcome = check_response(data, flags, rng.randrange(len(data) + 1))
            outcomes["response " + outcome] += 1
    return outcomes


def main() -> int:
    """Command line: prints the counts, exits 1 on the first difference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        outcomes = run(options.seed, options.inputs)
    except DifferenceError as difference:
        print(difference)
        return 1
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:10} {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
