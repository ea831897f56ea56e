"""The certificates, keys and authorities of entry points, judged as at a start."""

from __future__ import annotations

import datetime
import ssl
from typing import TYPE_CHECKING

from kvproxy.control.validation.certificate_error import CertificateError
from kvproxy.control.validation.certificates import generate_default, resolve_tls
from kvproxy.model.schema import Report
from kvproxy.proxy.downstream.listener import PROTOCOLS
from kvproxy.proxy.tls.context import build_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kvproxy.model.problem import Problem
    from kvproxy.model.static import EntryPoint


def examine_entry_points(
    entry_points: Mapping[str, EntryPoint], where: Callable[[tuple[str, ...]], str]
) -> tuple[Problem, ...]:
    """Read everything that the entry points' ``tls`` sections name; returns what is wrong.

    ``where`` returns the place that gave the option at a path.
    """
    now = datetime.datetime.now(datetime.UTC)
    generated = generate_default(now)
    report = Report(where)
    for name, entry_point in entry_points.items():
        if entry_point.tls is None:
            continue
        section = ("entryPoints", name, "tls")
        try:
            served, problems = resolve_tls(name, entry_point.tls, generated, now)
            build_context(served, served.default, PROTOCOLS)
        except CertificateError as error:
            path = (*section, *error.option.split("."))
            report.add(path, error.message, expected=error.expected)
            continue
        except ssl.SSLError as error:
            report.add(section, f"cannot be used by OpenSSL: {error.reason or error}")
            continue
        for problem in problems:
            below = problem.path.removeprefix(".".join(section) + ".")
            report.add((*section, *below.split(".")), problem.message, expected=problem.expected)
    return tuple(report.problems)
