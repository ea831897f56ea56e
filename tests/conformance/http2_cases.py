"""The cases of the public list h2spec (147: HTTP/2 95, generic 44, HPACK 8), with its names and its
sections, which are those of RFC 7540 and RFC 7541.

A case is a list of steps behind a handshake: bytes are sent, an expectation is waited for. `/`
answers with a body, `/hold` does not answer. Expectations are as strict as RFC 9113 is: where it
asks for a stream error, an error of the connection would not do.
"""

from __future__ import annotations

from tests.support.http2_frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    HEADERS,
    PADDED,
    PING,
    PING_FRAME,
    POST,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Body,
    Ended,
    Expected,
    Fields,
    Goaway,
    Head,
    Pong,
    Reset,
    Settings,
    SettingsAck,
    block,
    data,
    frame,
    goaway,
    headers,
    number,
    priority,
    rst_stream,
    settings,
    window_update,
)

Step = bytes | Expected

STREAMS = 128
"""SETTINGS_MAX_CONCURRENT_STREAMS."""

HELD: Fields = [*GET[:3], (b":path", b"/hold")]
HELD_POST: Fields = [*POST[:3], (b":path", b"/hold")]
BLOCK = block(GET)
POST_BLOCK = block(POST)
DUMMY: Fields = [(b"x-dummy", b"a" * 64)]
WITH_LENGTH: Fields = [*POST, (b"content-length", b"1")]
OPEN = headers(POST, 1, END_HEADERS)
OPEN_HELD = headers(HELD_POST, 1, END_HEADERS)
UNKNOWN = frame(0xFF, 0, 0, b"any bytes")

INITIAL_WINDOW_SIZE = 4
MAX_WINDOW = (1 << 31) - 1

PROTOCOL = Goaway((PROTOCOL_ERROR,))
SIZE = Goaway((FRAME_SIZE_ERROR,))
FLOW = Goaway((FLOW_CONTROL_ERROR,))
CLOSED = Goaway((STREAM_CLOSED,))
COMPRESSION = Goaway((COMPRESSION_ERROR,))
MALFORMED = Reset((PROTOCOL_ERROR,))


def malformed(fields: Fields) -> list[Step]:
    return [headers(fields), MALFORMED]


def answered(*frames: bytes) -> list[Step]:
    return [*frames, Head(), Ended()]


def accepted(*frames: bytes) -> list[Step]:
    """The connection goes on as before."""
    return [*frames, PING_FRAME, Pong()]


def compressed(representation: bytes) -> list[Step]:
    """A request with one more field, in one of the representations of HPACK."""
    return answered(frame(HEADERS, END, 1, BLOCK + representation))


def not_compressed(representation: bytes) -> list[Step]:
    return [frame(HEADERS, END, 1, BLOCK + representation), COMPRESSION]


# Some cases speak before or instead of the client's preface: then it is part of the first step.
WITHOUT_HANDSHAKE = {
    "http2/3.5/1: Sends client connection preface",
    "http2/3.5/2: Sends invalid connection preface",
    "generic/1/1: Sends a client connection preface",
}

CASES: dict[str, list[Step]] = {
    "http2/3.5/1: Sends client connection preface": [PREFACE + settings(), Settings()],
    "http2/3.5/2: Sends invalid connection preface": [
        b"INVALID CONNECTION PREFACE\r\n\r\n",
        PROTOCOL,
    ],
    "http2/4.1/1: Sends a frame with unknown type": accepted(UNKNOWN),
    "http2/4.1/2: Sends a frame with undefined flag": [
        frame(PING, 0x16, 0, b"8 octets"),
        Pong(),
    ],
    "http2/4.1/3: Sends a frame with reserved field bit": [
        frame(PING, 0, 1 << 31, b"8 octets"),
        Pong(),
    ],
    "http2/4.2/1: Sends a DATA frame with 2^14 octets in length": answered(
        OPEN, data(b"a" * 16384)
    ),
    "http2/4.2/2: Sends a large size DATA frame that exceeds the SETTINGS_MAX_FRAME_SIZE": [
        OPEN,
        data(b"a" * 16385),
        SIZE,
    ],
    "http2/4.2/3: Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE": [
        headers([*GET, (b"x", b"a" * 16384)]),
        SIZE,
    ],
    "http2/4.3/1: Sends invalid header block fragment": [
        frame(HEADERS, END, 1, b"\x40\x80\x80\x80\x80\x80\x80\x80"),
        COMPRESSION,
    ],
    "http2/4.3/2: Sends a PRIORITY frame while sending the header blocks": [
        frame(HEADERS, END_STREAM, 1, BLOCK) + priority(1),
        PROTOCOL,
    ],
    "http2/4.3/3: Sends a HEADERS frame to another stream while sending the header blocks": [
        frame(HEADERS, END_STREAM, 1, BLOCK) + headers(GET, 3),
        PROTOCOL,
    ],
    "http2/5.1.1/1: Sends even-numbered stream identifier": [headers(GET, 2), PROTOCOL],
    "http2/5.1.1/2: Sends stream identifier that is numerically smaller than previous": [
        headers(GET, 5) + headers(GET, 3),
        PROTOCOL,
    ],
    "http2/5.1.2/1: Sends HEADERS frames that causes their advertised concurrent stream limit to "
    "be exceeded": [
        b"".join(headers(HELD, 2 * i + 1) for i in range(STREAMS + 1)),
        Reset((REFUSED_STREAM,), 2 * STREAMS + 1),
    ],
    "http2/5.1/1: idle: Sends a DATA frame": [data(b"a"), PROTOCOL],
    "http2/5.1/2: idle: Sends a RST_STREAM frame": [rst_stream(1), PROTOCOL],
    "http2/5.1/3: idle: Sends a WINDOW_UPDATE frame": [window_update(100, 1), PROTOCOL],
    "http2/5.1/4: idle: Sends a CONTINUATION frame": [
        frame(CONTINUATION, END_HEADERS, 1, BLOCK),
        PROTOCOL,
    ],
    "http2/5.1/5: half closed (remote): Sends a DATA frame": [
        headers(HELD) + data(b"a"),
        Reset((STREAM_CLOSED,)),
    ],
    "http2/5.1/6: half closed (remote): Sends a HEADERS frame": [
        headers(HELD) + headers(GET),
        Reset((STREAM_CLOSED,)),
    ],
    "http2/5.1/7: half closed (remote): Sends a CONTINUATION frame": [
        headers(HELD) + frame(CONTINUATION, END_HEADERS, 1, block(DUMMY)),
        PROTOCOL,
    ],
    "http2/5.1/8: closed: Sends a DATA frame after sending RST_STREAM frame": [
        OPEN_HELD + rst_stream(1) + data(b"a"),
        Reset((STREAM_CLOSED,)),
    ],
    "http2/5.1/9: closed: Sends a HEADERS frame after sending RST_STREAM frame": [
        OPEN_HELD + rst_stream(1) + headers(DUMMY),
        Reset((STREAM_CLOSED,)),
    ],
    "http2/5.1/10: closed: Sends a CONTINUATION frame after sending RST_STREAM frame": [
        OPEN_HELD + rst_stream(1) + frame(CONTINUATION, END_HEADERS, 1, block(DUMMY)),
        PROTOCOL,
    ],
    "http2/5.1/11: closed: Sends a DATA frame": [headers(GET), Ended(), data(b"a"), CLOSED],
    "http2/5.1/12: closed: Sends a HEADERS frame": [
        headers(GET),
        Ended(),
        headers(GET),
        CLOSED,
    ],
    "http2/5.1/13: closed: Sends a CONTINUATION frame": [
        headers(GET),
        Ended(),
        frame(CONTINUATION, END_HEADERS, 1, block(DUMMY)),
        PROTOCOL,
    ],
    "http2/5.3.1/1: Sends HEADERS frame that depends on itself": [
        frame(HEADERS, END | PRIORITISED, 1, number(1) + b"\xff" + BLOCK),
        MALFORMED,
    ],
    "http2/5.3.1/2: Sends PRIORITY frame that depend on itself": [priority(2, 2), Reset((1,), 2)],
    "http2/5.4.1/1: Sends an invalid PING frame for connection close": [
        frame(PING, 0, 3, b"8 octets"),
        PROTOCOL,
    ],
    "http2/5.4.1/2: Sends an invalid PING frame to receive GOAWAY frame": [
        frame(PING, 0, 3, b"8 octets"),
        PROTOCOL,
    ],
    "http2/5.5/1: Sends an unknown extension frame": accepted(UNKNOWN),
    "http2/5.5/2: Sends an unknown extension frame in the middle of a header block": [
        frame(HEADERS, END_STREAM, 1, BLOCK) + frame(0xFF, 0, 1, b"any bytes"),
        PROTOCOL,
    ],
    "http2/6.1/1: Sends a DATA frame with 0x0 stream identifier": [data(b"a", 0), PROTOCOL],
    'http2/6.1/2: Sends a DATA frame on the stream that is not in "open" or "half-closed (local)" '
    "state": [headers(HELD) + data(b"a"), Reset((STREAM_CLOSED,))],
    "http2/6.1/3: Sends a DATA frame with invalid pad length": [
        OPEN + frame(DATA, END_STREAM | PADDED, 1, b"\x06test"),
        PROTOCOL,
    ],
    "http2/6.2/1: Sends a HEADERS frame without the END_HEADERS flag, and a PRIORITY frame": [
        frame(HEADERS, END_STREAM, 1, BLOCK) + priority(1),
        PROTOCOL,
    ],
    "http2/6.2/2: Sends a HEADERS frame to another stream while sending a HEADERS frame": [
        frame(HEADERS, END_STREAM, 1, BLOCK) + headers(GET, 3),
        PROTOCOL,
    ],
    "http2/6.2/3: Sends a HEADERS frame with 0x0 stream identifier": [headers(GET, 0), PROTOCOL],
    "http2/6.2/4: Sends a HEADERS frame with invalid pad length": [
        frame(HEADERS, END | PADDED, 1, bytes((len(BLOCK) + 1,)) + BLOCK),
        PROTOCOL,
    ],
    "http2/6.3/1: Sends a PRIORITY frame with 0x0 stream identifier": [priority(0), PROTOCOL],
    "http2/6.3/2: Sends a PRIORITY frame with a length other than 5 octets": [
        OPEN_HELD + frame(PRIORITY, 0, 1, b"\0\0\0\1"),
        Reset((FRAME_SIZE_ERROR,)),
    ],
    "http2/6.4/1: Sends a RST_STREAM frame with 0x0 stream identifier": [rst_stream(0), PROTOCOL],
    "http2/6.4/2: Sends a RST_STREAM frame on a idle stream": [rst_stream(1), PROTOCOL],
    "http2/6.4/3: Sends a RST_STREAM frame with a length other than 4 octets": [
        OPEN_HELD + frame(RST_STREAM, 0, 1, b"\0\0\0"),
        SIZE,
    ],
    "http2/6.5.2/1: SETTINGS_ENABLE_PUSH (0x2): Sends the value other than 0 or 1": [
        settings((2, 2)),
        PROTOCOL,
    ],
    "http2/6.5.2/2: SETTINGS_INITIAL_WINDOW_SIZE (0x4): Sends the value above the maximum flow "
    "control window size": [settings((INITIAL_WINDOW_SIZE, 1 << 31)), FLOW],
    "http2/6.5.2/3: SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value below the initial value": [
        settings((5, 16383)),
        PROTOCOL,
    ],
    "http2/6.5.2/4: SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value above the maximum allowed "
    "frame size": [settings((5, 1 << 24)), PROTOCOL],
    "http2/6.5.2/5: Sends a SETTINGS frame with unknown identifier": accepted(settings((255, 1))),
    "http2/6.5.3/1: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE": [
        settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)),
        SettingsAck(),
        headers(GET),
        Body(1),
    ],
    "http2/6.5.3/2: Sends a SETTINGS frame without ACK flag": [settings(), SettingsAck()],
    "http2/6.5/1: Sends a SETTINGS frame with ACK flag and payload": [
        settings((1, 1), flags=ACK),
        SIZE,
    ],
    "http2/6.5/2: Sends a SETTINGS frame with a stream identifier other than 0x0": [
        settings((3, 100), stream=1),
        PROTOCOL,
    ],
    "http2/6.5/3: Sends a SETTINGS frame with a length other than a multiple of 6 octets": [
        frame(SETTINGS, 0, 0, b"\0\3\0"),
        SIZE,
    ],
    "http2/6.7/1: Sends a PING frame": accepted(),
    "http2/6.7/2: Sends a PING frame with ACK": accepted(frame(PING, ACK, 0, b"no reply")),
    "http2/6.7/3: Sends a PING frame with a stream identifier field value other than 0x0": [
        frame(PING, 0, 1, b"8 octets"),
        PROTOCOL,
    ],
    "http2/6.7/4: Sends a PING frame with a length field value other than 8": [
        frame(PING, 0, 0, b"6 oct."),
        SIZE,
    ],
    "http2/6.8/1: Sends a GOAWAY frame with a stream identifier other than 0x0": [
        goaway(stream=1),
        PROTOCOL,
    ],
    "http2/6.9.1/1: Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS "
    "frame": [settings((INITIAL_WINDOW_SIZE, 1)), SettingsAck(), headers(GET), Body(1)],
    "http2/6.9.1/2: Sends multiple WINDOW_UPDATE frames increasing the flow control window to "
    "above 2^31-1": [window_update(MAX_WINDOW) * 2, FLOW],
    "http2/6.9.1/3: Sends multiple WINDOW_UPDATE frames increasing the flow control window to "
    "above 2^31-1 on a stream": [
        OPEN_HELD + window_update(MAX_WINDOW, 1) * 2,
        Reset((FLOW_CONTROL_ERROR,)),
    ],
    "http2/6.9.2/1: Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame": [
        settings((INITIAL_WINDOW_SIZE, 0)),
        SettingsAck(),
        headers(GET),
        Head(),
        settings((INITIAL_WINDOW_SIZE, 1)),
        Body(1),
    ],
    "http2/6.9.2/2: Sends a SETTINGS frame for window size to be negative": [
        settings((INITIAL_WINDOW_SIZE, 3)),
        SettingsAck(),
        headers(GET),
        Body(3),
        settings((INITIAL_WINDOW_SIZE, 2)),
        SettingsAck(),
        window_update(2, 1),
        Body(1),
    ],
    "http2/6.9.2/3: Sends a SETTINGS_INITIAL_WINDOW_SIZE settings with an exceeded maximum window "
    "size value": [settings((INITIAL_WINDOW_SIZE, 1 << 31)), FLOW],
    "http2/6.9/1: Sends a WINDOW_UPDATE frame with a flow control window increment of 0": [
        window_update(0),
        PROTOCOL,
    ],
    "http2/6.9/2: Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a "
    "stream": [OPEN_HELD + window_update(0, 1), MALFORMED],
    "http2/6.9/3: Sends a WINDOW_UPDATE frame with a length other than 4 octets": [
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"),
        SIZE,
    ],
    "http2/6.10/1: Sends multiple CONTINUATION frames preceded by a HEADERS frame": answered(
        frame(HEADERS, END_STREAM, 1, BLOCK),
        frame(CONTINUATION, 0, 1, block(DUMMY)),
        frame(CONTINUATION, END_HEADERS, 1, block(DUMMY)),
    ),
    "http2/6.10/2: Sends a CONTINUATION frame followed by any frame other than CONTINUATION": [
        frame(HEADERS, END_HEADERS ^ END, 1, BLOCK)
        + frame(CONTINUATION, 0, 1, block(DUMMY))
        + data(b"a"),
        PROTOCOL,
    ],
    "http2/6.10/3: Sends a CONTINUATION frame with 0x0 stream identifier": [
        frame(HEADERS, END_STREAM, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 0, block(DUMMY)),
        PROTOCOL,
    ],
    "http2/6.10/4: Sends a CONTINUATION frame preceded by a HEADERS frame with END_HEADERS flag": [
        headers(GET) + frame(CONTINUATION, END_HEADERS, 1, block(DUMMY)),
        PROTOCOL,
    ],
    "http2/6.10/5: Sends a CONTINUATION frame preceded by a CONTINUATION frame with END_HEADERS "
    "flag": [
        frame(HEADERS, END_STREAM, 1, BLOCK)
        + frame(CONTINUATION, END_HEADERS, 1, block(DUMMY))
        + frame(CONTINUATION, END_HEADERS, 1, block(DUMMY)),
        PROTOCOL,
    ],
    "http2/6.10/6: Sends a CONTINUATION frame preceded by a DATA frame": [
        OPEN + data(b"a", flags=0) + frame(CONTINUATION, END_HEADERS, 1, block(DUMMY)),
        PROTOCOL,
    ],
    "http2/7/1: Sends a GOAWAY frame with unknown error code": accepted(goaway(0xFF)),
    "http2/7/2: Sends a RST_STREAM frame with unknown error code": accepted(
        OPEN_HELD, rst_stream(1, 0xFF)
    ),
    "http2/8.1.2.1/1: Sends a HEADERS frame that contains a unknown pseudo-header field": (
        malformed([*GET, (b":test", b"ok")])
    ),
    "http2/8.1.2.1/2: Sends a HEADERS frame that contains the pseudo-header field defined for "
    "response": malformed([*GET, (b":status", b"200")]),
    "http2/8.1.2.1/3: Sends a HEADERS frame that contains a pseudo-header field as trailers": [
        OPEN_HELD + data(b"a", flags=0) + headers([(b":method", b"200")]),
        MALFORMED,
    ],
    "http2/8.1.2.1/4: Sends a HEADERS frame that contains a pseudo-header field that appears in a "
    "header block after a regular header field": malformed([*GET[:3], *DUMMY, GET[3]]),
    "http2/8.1.2.2/1: Sends a HEADERS frame that contains the connection-specific header field": (
        malformed([*GET, (b"connection", b"keep-alive")])
    ),
    "http2/8.1.2.2/2: Sends a HEADERS frame that contains the TE header field with any value other "
    'than "trailers"': malformed([*GET, (b"trailers", b"test"), (b"te", b"trailers, deflate")]),
    'http2/8.1.2.3/1: Sends a HEADERS frame with empty ":path" pseudo-header field': malformed(
        [*GET[:3], (b":path", b"")]
    ),
    'http2/8.1.2.3/2: Sends a HEADERS frame that omits ":method" pseudo-header field': malformed(
        GET[1:]
    ),
    'http2/8.1.2.3/3: Sends a HEADERS frame that omits ":scheme" pseudo-header field': malformed(
        [GET[0], *GET[2:]]
    ),
    'http2/8.1.2.3/4: Sends a HEADERS frame that omits ":path" pseudo-header field': malformed(
        GET[:3]
    ),
    'http2/8.1.2.3/5: Sends a HEADERS frame with duplicated ":method" pseudo-header field': (
        malformed([*GET, GET[0]])
    ),
    'http2/8.1.2.3/6: Sends a HEADERS frame with duplicated ":scheme" pseudo-header field': (
        malformed([*GET, GET[1]])
    ),
    'http2/8.1.2.3/7: Sends a HEADERS frame with duplicated ":path" pseudo-header field': (
        malformed([*GET, GET[3]])
    ),
    'http2/8.1.2.6/1: Sends a HEADERS frame with the "content-length" header field which does not '
    "equal the DATA frame payload length": [
        headers(WITH_LENGTH, flags=END_HEADERS) + data(b"test"),
        MALFORMED,
    ],
    'http2/8.1.2.6/2: Sends a HEADERS frame with the "content-length" header field which does not '
    "equal the sum of the multiple DATA frames payload length": [
        headers(WITH_LENGTH, flags=END_HEADERS) + data(b"", flags=0) + data(b"test"),
        MALFORMED,
    ],
    "http2/8.1.2/1: Sends a HEADERS frame that contains the header field name in uppercase "
    "letters": malformed([*GET, (b"X-TEST", b"ok")]),
    "http2/8.1/1: Sends a second HEADERS frame without the END_STREAM flag": [
        OPEN_HELD + data(b"a", flags=0) + headers(DUMMY, flags=END_HEADERS),
        MALFORMED,
    ],
    "http2/8.2/1: Sends a PUSH_PROMISE frame": [
        frame(PUSH_PROMISE, END_HEADERS, 1, number(3) + BLOCK),
        PROTOCOL,
    ],
    "generic/1/1: Sends a client connection preface": [PREFACE + settings(), Settings()],
    "generic/2/1: Sends a PRIORITY frame on idle stream": accepted(priority(1)),
    "generic/2/2: Sends a WINDOW_UPDATE frame on half-closed (remote) stream": [
        settings((INITIAL_WINDOW_SIZE, 0)),
        SettingsAck(),
        headers(GET) + window_update(1, 1),
        Body(1),
    ],
    "generic/2/3: Sends a PRIORITY frame on half-closed (remote) stream": answered(
        headers(GET), priority(1)
    ),
    "generic/2/4: Sends a RST_STREAM frame on half-closed (remote) stream": accepted(
        headers(HELD), rst_stream(1)
    ),
    "generic/2/5: Sends a PRIORITY frame on closed stream": [
        headers(GET),
        Ended(),
        *accepted(priority(1)),
    ],
    "generic/3.1/1: Sends a DATA frame": answered(OPEN, data(b"test")),
    "generic/3.1/2: Sends multiple DATA frames": answered(
        OPEN, data(b"test", flags=0), data(b"test")
    ),
    "generic/3.1/3: Sends a DATA frame with padding": answered(
        OPEN, frame(DATA, END_STREAM | PADDED, 1, b"\x06test" + bytes(6))
    ),
    "generic/3.2/1: Sends a HEADERS frame": answered(headers(GET)),
    "generic/3.2/2: Sends a HEADERS frame with padding": answered(
        frame(HEADERS, END | PADDED, 1, b"\x06" + BLOCK + bytes(6))
    ),
    "generic/3.2/3: Sends a HEADERS frame with priority": answered(
        frame(HEADERS, END | PRIORITISED, 1, number(0) + b"\xff" + BLOCK)
    ),
    "generic/3.3/1: Sends a PRIORITY frame with priority 1": answered(
        priority(1, weight=0), headers(GET)
    ),
    "generic/3.3/2: Sends a PRIORITY frame with priority 256": answered(
        priority(1, weight=255), headers(GET)
    ),
    "generic/3.3/3: Sends a PRIORITY frame with stream dependency": answered(
        priority(1, 3), headers(GET)
    ),
    "generic/3.3/4: Sends a PRIORITY frame with exclusive": answered(
        priority(1, 1 << 31), headers(GET)
    ),
    "generic/3.3/5: Sends a PRIORITY frame for an idle stream, then send a HEADER frame for a "
    "lower stream ID": answered(priority(3), headers(GET)),
    "generic/3.4/1: Sends a RST_STREAM frame": accepted(OPEN_HELD, rst_stream(1)),
    "generic/3.5/1: Sends a SETTINGS frame": [settings((3, 100)), SettingsAck()],
    "generic/3.7/1: Sends a PING frame": accepted(),
    "generic/3.8/1: Sends a GOAWAY frame": accepted(goaway()),
    "generic/3.9/1: Sends a WINDOW_UPDATE frame with stream ID 0": accepted(window_update(1)),
    "generic/3.9/2: Sends a WINDOW_UPDATE frame with stream ID 1": answered(
        OPEN, window_update(1, 1), data(b"a")
    ),
    "generic/3.10/1: Sends a CONTINUATION frame": answered(
        frame(HEADERS, END_STREAM, 1, BLOCK), frame(CONTINUATION, END_HEADERS, 1, block(DUMMY))
    ),
    "generic/3.10/2: Sends multiple CONTINUATION frames": answered(
        frame(HEADERS, END_STREAM, 1, BLOCK[:5]),
        frame(CONTINUATION, 0, 1, BLOCK[5:9]),
        frame(CONTINUATION, END_HEADERS, 1, BLOCK[9:]),
    ),
    "generic/4/1: Sends a GET request": answered(headers(GET)),
    "generic/4/2: Sends a HEAD request": [headers([(b":method", b"HEAD"), *GET[1:]]), Ended()],
    "generic/4/3: Sends a POST request": answered(OPEN, data(b"test")),
    "generic/4/4: Sends a POST request with trailers": answered(
        headers([*POST, (b"trailer", b"x-test")], flags=END_HEADERS),
        data(b"test", flags=0),
        headers([(b"x-test", b"ok")]),
    ),
    "generic/5/1: Sends a indexed header field representation": answered(
        frame(HEADERS, END, 1, b"\x82\x86\x84\x01\x06a.test")
    ),
    "generic/5/2: Sends a literal header field with incremental indexing - indexed name": (
        compressed(b"\x7a\x04test")
    ),
    "generic/5/3: Sends a literal header field with incremental indexing - indexed name (with "
    "Huffman coding)": compressed(b"\x7a\x83\x49\x50\x9f"),
    "generic/5/4: Sends a literal header field with incremental indexing - new name": compressed(
        b"\x40\x06x-test\x04test"
    ),
    "generic/5/5: Sends a literal header field with incremental indexing - new name (with Huffman "
    "coding)": compressed(b"\x40\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x9f"),
    "generic/5/6: Sends a literal header field without indexing - indexed name": compressed(
        b"\x0f\x2b\x04test"
    ),
    "generic/5/7: Sends a literal header field without indexing - indexed name (with Huffman "
    "coding)": compressed(b"\x0f\x2b\x83\x49\x50\x9f"),
    "generic/5/8: Sends a literal header field without indexing - new name": compressed(
        b"\x00\x06x-test\x04test"
    ),
    "generic/5/9: Sends a literal header field without indexing - new name (huffman encoded)": (
        compressed(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x9f")
    ),
    "generic/5/10: Sends a literal header field never indexed - indexed name": compressed(
        b"\x1f\x2b\x04test"
    ),
    "generic/5/11: Sends a literal header field never indexed - indexed name (huffman encoded)": (
        compressed(b"\x1f\x2b\x83\x49\x50\x9f")
    ),
    "generic/5/12: Sends a literal header field never indexed - new name": compressed(
        b"\x10\x06x-test\x04test"
    ),
    "generic/5/13: Sends a literal header field never indexed - new name (huffman encoded)": (
        compressed(b"\x10\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x9f")
    ),
    "generic/5/14: Sends a dynamic table size update": answered(
        frame(HEADERS, END, 1, b"\x3f\x61" + BLOCK)
    ),
    "generic/5/15: Sends multiple dynamic table size update": answered(
        frame(HEADERS, END, 1, b"\x20\x3f\x61" + BLOCK)
    ),
    "hpack/2.3.3/1: Sends a indexed header field representation with invalid index": (
        not_compressed(b"\xc6")
    ),
    "hpack/2.3.3/2: Sends a literal header field representation with invalid index": (
        not_compressed(b"\x7f\x07\x04test")
    ),
    "hpack/4.2/1: Sends a dynamic table size update at the end of header block": not_compressed(
        b"\x3f\x61"
    ),
    "hpack/5.2/1: Sends a Huffman-encoded string literal representation with padding longer than 7 "
    "bits": not_compressed(b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
    "hpack/5.2/2: Sends a Huffman-encoded string literal representation padded by zero": (
        not_compressed(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")
    ),
    "hpack/5.2/3: Sends a Huffman-encoded string literal representation containing the EOS "
    "symbol": not_compressed(
        b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x50\x9f\xff\xff\xff\xff",
    ),
    "hpack/6.1/1: Sends a indexed header field representation with index 0": not_compressed(
        b"\x80"
    ),
    "hpack/6.3/1: Sends a dynamic table size update larger than the value of "
    "SETTINGS_HEADER_TABLE_SIZE": [
        frame(HEADERS, END, 1, b"\x3f\xe2\x1f" + BLOCK),
        COMPRESSION,
    ],
}
