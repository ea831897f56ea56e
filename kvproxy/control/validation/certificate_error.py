"""The error of certificates, apart from what reads them: that takes long to import."""


class CertificateError(Exception):
    """A certificate, a key or an authority cannot be used; the message never shows content."""

    def __init__(self, option: str, message: str, expected: str = "") -> None:
        """``option``: the key below the certificate or the entry point, such as ``certFile``."""
        super().__init__(f"{option}: {message}" + (f"; expected {expected}" if expected else ""))
        self.option = option
        self.message = message
        self.expected = expected
