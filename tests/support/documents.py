"""Markdown files of the project and the examples in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"(?P<mark><!-- test -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_MODULE = re.compile(r"`((?:\w+/)*\w+\.(?:py|c))`")
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#]+)(#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, whether it is to be run."""

    place: str
    language: str
    text: str
    tested: bool


@dataclass(frozen=True)
class Command:
    """A command of a block; ``expected`` is None where a document shows no output."""

    place: str
    text: str
    expected: str | None


def documents() -> list[Path]:
    """Return the Markdown files of the project, those that are generated excluded."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a file, in order."""
    text = path.read_text()
    return [
        Block(
            place=f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start('language')) + 1}",
            language=match["language"],
            text=match["text"],
            tested=match["mark"] is not None,
        )
        for match in _FENCE.finditer(text)
    ]


def links(path: Path) -> list[str]:
    """Return the targets of the relative links of a file."""
    text = _FENCE.sub("", path.read_text())
    return [match[1] for match in _LINK.finditer(text)]


def modules(path: Path) -> list[str]:
    """Return the source files that the text of a file names, with or without their folders."""
    return _MODULE.findall(_FENCE.sub("", path.read_text()))


def commands(block: Block) -> list[Command]:
    """Split a block into commands: ``console`` at each ``$``, ``bash`` is one command."""
    if block.language != "console":
        return [Command(block.place, block.text, None)]
    found: list[Command] = []
    lines = block.text.splitlines()
    while lines:
        first = lines.pop(0)
        assert first.startswith("$ "), f"{block.place}: a console block starts with `$ `"
        command = [first[2:]]
        while command[-1].endswith("\\"):
            command.append(lines.pop(0))
        output: list[str] = []
        while lines and not lines[0].startswith("$ "):
            output.append(lines.pop(0))
        found.append(Command(block.place, "\n".join(command) + "\n", "\n".join(output)))
    return found


def matches(expected: str, output: str) -> bool:
    """Compare output with a document: ``...`` is any text; on a line of its own, any lines."""
    pattern = ""
    for line in expected.splitlines():
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*"
        else:
            pattern += r"[^\n]*".join(re.escape(part) for part in line.split("...")) + r"\n"
    return (
        re.fullmatch(pattern, output if not output or output.endswith("\n") else output + "\n")
        is not None
    )
