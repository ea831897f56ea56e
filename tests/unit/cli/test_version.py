from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

import kvproxy


def version(*arguments: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "kvproxy", "version", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout


def test_values_start_at_column_15_as_in_the_reference_product() -> None:
    lines = version().splitlines()
    assert [line[:14].rstrip() for line in lines] == [
        *("Version:", "Python:", "Scanner:", "Built:", "OS/Arch:"),
    ]
    assert lines[0] == f"Version:      {kvproxy.__version__}"
    assert lines[1].startswith(f"Python:       {platform.python_version()} ")


@pytest.mark.parametrize("pure", ["0", "1"])
def test_the_scanner_in_use_is_named(pure: str) -> None:
    program = "from kvproxy.http.scan import IMPLEMENTATION; print(IMPLEMENTATION)"
    implementation = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KVPROXY_PURE_PYTHON": pure},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout.strip()
    expected = {"c": "C extension", "python": "pure Python"}[implementation]
    assert json.loads(version("--output", "json", KVPROXY_PURE_PYTHON=pure))["scanner"] == expected
    if pure == "1":
        assert expected == "pure Python"


def test_a_build_can_be_named_from_outside() -> None:
    assert "Built:        abc123 2030-01-01\n" in version(KVPROXY_BUILD="abc123 2030-01-01")
