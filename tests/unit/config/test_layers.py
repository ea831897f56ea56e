from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.config.layers import Layer, Layers, merged

if TYPE_CHECKING:
    from pathlib import Path

STACKS: list[tuple[str, list[tuple[Layer, dict[str, Any]]], dict[str, Any]]] = [
    ("nothing", [], {}),
    ("one", [("file", {"a": 1, "s": {}})], {"a": 1, "s": {}}),
    ("later wins", [("file", {"a": 1}), ("argument", {"a": 2}), ("store", {"a": 3})], {"a": 3}),
    ("lists are replaced", [("file", {"a": [1, 2]}), ("store", {"a": [3]})], {"a": [3]}),
    ("sections are united", [("file", {"s": {"a": 1}}), ("store", {"s": {"b": 2}})],
     {"s": {"a": 1, "b": 2}}),
    ("an empty section takes nothing away", [("file", {"s": {"a": 1}}), ("store", {"s": {}})],
     {"s": {"a": 1}}),
    ("false, zero and empty count", [("file", {"a": True, "b": 3, "c": "x", "d": [1]}),
     ("store", {"a": False, "b": 0, "c": "", "d": []})], {"a": False, "b": 0, "c": "", "d": []}),
    ("names by case", [("file", {"s": {"A": 1}}), ("store", {"s": {"a": 2}})],
     {"s": {"A": 1, "a": 2}}),
    ("names that dynaconf would split",
     [("file", {"a__b": 1, "c.d": 2, "e": {"f__g": 3, "h.i": 4}})],
     {"a__b": 1, "c.d": 2, "e": {"f__g": 3, "h.i": 4}}),
    ("names that mean something to dynaconf",
     [("file", {"dynaconf_merge": False, "dynaconf_include": ["x"], "s": {"a": 1}}),
      ("store", {"s": {"dynaconf_merge": False, "b__merge": True}})],
     {"dynaconf_merge": False, "dynaconf_include": ["x"],
      "s": {"a": 1, "dynaconf_merge": False, "b__merge": True}}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stack", "expected"), [row[1:] for row in STACKS], ids=[row[0] for row in STACKS]
)
def test_stack(stack: list[tuple[Layer, dict[str, Any]]], expected: dict[str, Any]) -> None:
    layers = Layers()
    for layer, document in stack:
        layers.put(layer, document)
    assert merged(layers)[0] == expected


def test_sources() -> None:
    layers = Layers()
    layers.put("file", {"a": 1, "s": {"b": 1, "c": 1}})
    layers.put("store", {"s": {"c": 2}})
    assert merged(layers)[1] == {
        ("a",): "file",
        ("s",): "store",
        ("s", "b"): "file",
        ("s", "c"): "store",
    }


def test_forget() -> None:
    layers = Layers()
    layers.put("file", {"s": {"a": {"b": 1}}, "s2": {"a": 1}, "t": 1})
    layers.forget(("s",))
    layers.put("argument", {"s": {"c": 2}})
    assert merged(layers)[0] == {"s": {"c": 2}, "s2": {"a": 1}, "t": 1}


EVIL = [
    "@format {env[HOME]}",
    "@jinja {{ env.HOME }}",
    "@read_file /etc/hostname",
    "@int 3",
    "@merge a=1",
    "@del",
    "@reset",
    "@none",
    "@insert 0 x",
    "@get OTHER",
    "dynaconf_merge",
    "true",
    "3",
    "{a = 1}",
]

PROGRAM = """
import sys
from kvproxy.config.layers import Layers, merged
layers = Layers()
layers.put("file", {"text": sys.argv[1], "list": [sys.argv[1]], "s": {sys.argv[1]: sys.argv[1]}})
layers.put("store", {"text": sys.argv[1], "other": {"text": sys.argv[1]}})
print(repr(merged(layers)[0]))
"""


@pytest.mark.parametrize("text", EVIL)
def test_values_stay_the_text_that_they_are(text: str) -> None:
    layers = Layers()
    layers.put("file", {"text": text, "list": [text], "s": {text: text}})
    layers.put("store", {"text": text, "other": {"text": text}})
    assert merged(layers)[0] == {
        "text": text,
        "list": [text],
        "s": {text: text},
        "other": {"text": text},
    }


def test_neither_environment_nor_hooks_have_a_say(tmp_path: Path) -> None:
    evidence = tmp_path / "hook-was-here"
    hook = f"open({str(evidence)!r}, 'w').close()\n"
    (tmp_path / "dynaconf_hooks.py").write_text(hook)
    (tmp_path / "settings.py").write_text(hook)
    for name in ("settings.toml", ".secrets.toml", "kvproxy.toml"):
        (tmp_path / name).write_text('text = "from a file"\nstolen = "x"\n')
    (tmp_path / ".env").write_text("DYNACONF_TEXT=from-dotenv\n")
    environment = {
        "PYTHONPATH": ":".join(path for path in sys.path if path),
        "HOME": "/home/somebody",
        "AUTO_CAST_FOR_DYNACONF": "true",
        "LOADERS_FOR_DYNACONF": '["dynaconf.loaders.env_loader"]',
        "CORE_LOADERS_FOR_DYNACONF": '["TOML", "PY"]',
        "LOAD_DOTENV_FOR_DYNACONF": "true",
        "ENVVAR_PREFIX_FOR_DYNACONF": "",
        "MERGE_ENABLED_FOR_DYNACONF": "true",
        "DOTTED_LOOKUP_FOR_DYNACONF": "true",
        "SETTINGS_FILE_FOR_DYNACONF": str(tmp_path / "settings.toml"),
        "SETTINGS_MODULE_FOR_DYNACONF": str(tmp_path / "settings.py"),
        "INCLUDES_FOR_DYNACONF": str(tmp_path / "settings.py"),
        "PRELOAD_FOR_DYNACONF": str(tmp_path / "settings.py"),
        "ROOT_PATH_FOR_DYNACONF": str(tmp_path),
        "DYNACONF_TEXT": "from the environment",
        "DYNACONF_STOLEN": "x",
        "DYNACONF_LOGLEVEL": "DEBUG",
        "KVPROXY_TEXT": "from the environment",
    }
    text = "@format {env[HOME]}"
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, text],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    expected = {"text": text, "list": [text], "s": {text: text}, "other": {"text": text}}
    assert result.stdout.strip() == repr(expected)
    assert not evidence.exists()
