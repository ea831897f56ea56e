"""Settings of the connections to servers."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.model.static import EntryPoint, ForwardingTimeouts, StaticConfiguration
from kvproxy.proxy.upstream.transport import DEFAULT_IDLE_CONNECTIONS, TransportSettings
from tests.support.certificates import Authority, authority

if TYPE_CHECKING:
    from pathlib import Path


def transport(**options: Any) -> TransportSettings:
    return TransportSettings(
        StaticConfiguration(entry_points={"http": EntryPoint(address=":0")}, **options)
    )


def test_defaults() -> None:
    settings = transport()
    assert settings.dial_seconds == 30
    assert settings.response_header_seconds == 0
    assert settings.idle_limit == 200
    assert settings.tls_context.verify_mode == ssl.CERT_REQUIRED
    assert settings.tls_context.check_hostname


def test_limits() -> None:
    timeouts = ForwardingTimeouts(dial_timeout=1.5, response_header_timeout=2.5)
    settings = transport(forwarding_timeouts=timeouts, max_idle_conns_per_host=7)
    assert settings.dial_seconds == 1.5
    assert settings.response_header_seconds == 2.5
    assert settings.idle_limit == 7
    assert transport(max_idle_conns_per_host=0).idle_limit == DEFAULT_IDLE_CONNECTIONS


def names(settings: TransportSettings) -> set[str]:
    return {
        dict(part[0] for part in certificate["subject"])["commonName"]  # type: ignore[misc]
        for certificate in settings.tls_context.get_ca_certs()
    }


def test_root_authorities_replace_those_of_the_system() -> None:
    other = Authority("another authority")
    settings = transport(root_cas=(authority().pem, str(other.path)))
    assert names(settings) == {"kvproxy test authority", "another authority"}
    assert settings.tls_context.verify_mode == ssl.CERT_REQUIRED
    assert settings.tls_context.check_hostname


def test_verification_is_left_out_only_when_told_so() -> None:
    settings = transport(insecure_skip_verify=True, root_cas=(authority().pem,))
    assert settings.tls_context.verify_mode == ssl.CERT_NONE
    assert not settings.tls_context.check_hostname


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        transport(root_cas=(str(tmp_path / "missing.pem"),))
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        transport(root_cas=(str(broken),))
