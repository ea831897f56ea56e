"""The authority of a request: host and port, as in ``Host`` (RFC 9110 section 7.2)."""


def port_of(host: bytes, default: bytes) -> bytes:
    """Return the port in a Host value, else ``default``."""
    if host[-1:].isdigit():
        before, colon, port = host.rpartition(b":")
        if colon and port.isdigit() and (b":" not in before or before.endswith(b"]")):
            return port
    return default
