"""The import rule: which package may import which, so that the parts stay apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "rules": {"model"},
    "provider": {"model"},
    "providers": {"provider", "model"},
    "config": {"model", "provider", "middleware"},
    "channel": {"model"},
    "log": set(),
    "turns": set(),
    "unix_socket": set(),
    "control": {
        "model",
        "rules",
        "routing",
        "http",
        "balance",
        "middleware",
        "provider",
        "config",
        "channel",
        "log",
        "turns",
        "unix_socket",
    },
    "api": {"model", "control", "log", "unix_socket"},
    "http": set(),
    "routing": {"model", "rules", "http"},
    "balance": {"model", "rules", "http"},
    "middleware": {"model", "rules", "http", "balance"},
    "proxy": {
        "http",
        "routing",
        "balance",
        "middleware",
        "model",
        "rules",
        "channel",
        "log",
        "turns",
        "unix_socket",
    },
    "cli": {
        *(
            "model",
            "rules",
            "provider",
            "providers",
            "config",
            "channel",
            "control",
            "api",
            "log",
            "turns",
        ),
        *("http", "routing", "balance", "middleware", "proxy"),
    },
}
"""Package -> the packages of this project it may import, besides itself."""

ANYWHERE = {"kvproxy"}
"""The bare package: the version and nothing else."""


def package_of(module: str) -> str:
    """``kvproxy.model.problem`` -> ``model``; ``providers.file`` -> ``providers``."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "kvproxy" and rest else first


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str, module: str, is_package: bool) -> set[str]:
    """Every module of this project that a source file imports, wherever in the file it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                keep = len(parts) - node.level + is_package
                base = ".".join([*parts[:keep], *([base] if base else [])])
            if base == "kvproxy":
                found.update(f"kvproxy.{alias.name}" for alias in node.names)
            else:
                found.add(base)
    return {name for name in found if name.partition(".")[0] in ("kvproxy", "providers")}


def violations(source: str, module: str, is_package: bool = False) -> set[str]:
    own = package_of(module)
    allowed = MAY_IMPORT.get(own, set()) | {own} | ANYWHERE
    imported = imported_modules(source, module, is_package)
    return {name for name in imported if package_of(name) not in allowed and name != "kvproxy"}


FILES = sorted([*(ROOT / "kvproxy").rglob("*.py"), *(ROOT / "providers").rglob("*.py")])


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_file_follows_the_import_rule(path: Path) -> None:
    module = module_of(path)
    if module == "kvproxy.__main__":
        assert imported_modules(path.read_text(), module, False) == {"kvproxy.cli"}
        return
    if module == "kvproxy":
        assert imported_modules(path.read_text(), module, True) == set()
        return
    assert package_of(module) in MAY_IMPORT, f"name the package of {module} in MAY_IMPORT"
    assert violations(path.read_text(), module, path.name == "__init__.py") == set()


@pytest.mark.parametrize(
    ("source", "module", "expected"),
    [
        ("import kvproxy.control", "kvproxy.proxy.worker", {"kvproxy.control"}),
        ("from kvproxy import control", "kvproxy.proxy.worker", {"kvproxy.control"}),
        ("from kvproxy.control.x import y", "kvproxy.proxy.worker", {"kvproxy.control.x"}),
        ("from ..control import x", "kvproxy.proxy.worker", {"kvproxy.control"}),
        ("def f():\n    import providers.file", "kvproxy.proxy.worker", {"providers.file"}),
        ("if TYPE_CHECKING:\n    import kvproxy.cli", "kvproxy.model.x", {"kvproxy.cli"}),
        ("from . import x\nimport kvproxy", "kvproxy.proxy.worker", set()),
        ("from kvproxy.model.dynamic import Server", "kvproxy.proxy.worker", set()),
    ],
)
def test_the_check_sees_every_way_to_import(source: str, module: str, expected: set[str]) -> None:
    assert violations(source, module) == expected


def parts_imported(source: str, package: str) -> set[str]:
    """The folders of a package, and the modules beside them, that a file of it imports when it is
    run: what it imports for its annotations is left out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    inside = f"{package}."
    return {name.removeprefix(inside).split(".")[0] for name in names if name.startswith(inside)}


def order_of_parts(files: Iterable[tuple[str, str]], package: str) -> list[str]:
    """Return the parts of a package in an order in which each imports only what precedes it.

    ``files``: part and source of each. CycleError where there is no such order.
    """
    imported: dict[str, set[str]] = {}
    for part, source in files:
        imported.setdefault(part, set()).update(parts_imported(source, package) - {part})
    return list(TopologicalSorter(imported).static_order())


@pytest.mark.parametrize("package", ["control", "proxy"])
def test_the_folders_of_a_package_import_each_other_in_one_direction(package: str) -> None:
    folder = ROOT / "kvproxy" / package
    files = [
        (path.relative_to(folder).with_suffix("").parts[0], path.read_text())
        for path in folder.rglob("*.py")
    ]
    folders = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert folders <= set(order_of_parts(files, f"kvproxy.{package}"))


@pytest.mark.parametrize(
    "second",
    [
        "from kvproxy.proxy import first",
        "from kvproxy.proxy.first import x",
        "from kvproxy.proxy.first.inner import x",
        "def f():\n    from kvproxy.proxy.first import x",
    ],
)
def test_a_circle_of_folders_is_found(second: str) -> None:
    files = [("first", "from kvproxy.proxy.second import y"), ("second", second)]
    with pytest.raises(CycleError):
        order_of_parts(files, "kvproxy.proxy")


def test_an_import_for_annotations_makes_no_circle() -> None:
    for_annotations = "if TYPE_CHECKING:\n    from kvproxy.proxy.first import x"
    files = [("first", "from kvproxy.proxy.second import y"), ("second", for_annotations)]
    assert order_of_parts(files, "kvproxy.proxy") == ["second", "first"]


def test_the_root_command_imports_no_other_part() -> None:
    """What keeps ``kvproxy --help`` fast: commands are imported when they are used."""
    program = "import sys, kvproxy.cli; print(*sorted(m for m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    ours = {name for name in loaded if name.partition(".")[0] in ("kvproxy", "providers")}
    assert ours <= {
        *("kvproxy", "kvproxy.cli", "kvproxy.cli.group", "kvproxy.model", "kvproxy.model.problem"),
    }
    assert not {"aiohttp", "uvloop", "rich", "dynaconf"} & set(loaded)


def test_a_supervisor_imports_no_library_for_what_is_not_configured() -> None:
    """A start is waited for: TLS, stores' clients and the API are imported when they are used."""
    program = "import sys, kvproxy.control.supervisor, kvproxy.config.startup; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    assert "dynaconf" in loaded
    optional = {"aiohttp", "consul", "kazoo", "cryptography", "prometheus_client", "dns", "rich"}
    assert not optional & set(loaded)


def test_a_worker_imports_no_access_log_unless_there_is_one() -> None:
    program = "import sys, kvproxy.proxy.worker; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    assert "kvproxy.proxy.downstream.serving" in loaded
    assert not [name for name in loaded if name.startswith("kvproxy.proxy.access_log")]
