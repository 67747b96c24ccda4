"""Commands, examples and files of the README and of the pages in docs/, as their reader would use them.

A page is Markdown. Its fenced blocks are read in their order:

- no language, or `console`: a line that begins with `edgekit` (after `$ ` if there is one) is a command; `\\` at
  its end continues it. In a `console` block the lines after a command are what it prints, in this order; a line
  `...` stands for any lines, and `…` within a line for any words.
- `python`: an example; those of a page share their names.
- any language with `title="FILE"`: a file that the reader has written.

What follows `#` at the end of a command says in words how it ends or is tested:

- `# ends with exit code 2`
- `# tested with --steps 4 --workers 0`: with these values in place of, or beside, the command's own
- `# not tested: needs a phone`
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [README, *PAGES]

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<options>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A line of a shell."""

    words: tuple[str, ...]
    line: int
    code: int = 0
    """That it ends with."""
    tested_with: tuple[str, ...] = ()
    not_tested: str = ""
    """Why."""
    prints: tuple[str, ...] = ()

    def run_as(self) -> list[str]:
        """Its words after the program's name, with what it is tested with."""
        words = list(self.words[1:])
        given = list(self.tested_with)
        while given:
            option = given.pop(0)
            values = [given.pop(0)] if given and not given[0].startswith("--") else []
            if option in words and values:
                words[words.index(option) + 1] = values[0]
            else:
                words += [option, *values]
        return words


@dataclass(frozen=True)
class Example:
    """Of Python."""

    text: str
    line: int


@dataclass(frozen=True)
class WrittenFile:
    name: str
    text: str


Part = Command | Example | WrittenFile


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[Block]:
    for found in FENCE.finditer(text):
        indent = found["indent"]
        lines = [line.removeprefix(indent) for line in found["text"].splitlines()]
        title = re.search(r'title="([^"]+)"', found["options"])
        line = text.count("\n", 0, found.start()) + 2
        yield Block(found["language"], title[1] if title else "", "\n".join(lines), line)


def parts(text: str) -> list[Part]:
    """All that a reader of the page writes and runs."""
    made: list[Part] = []
    for block in blocks(text):
        if block.title:
            made.append(WrittenFile(block.title, block.text + "\n"))
        elif block.language == "python":
            made.append(Example(block.text, block.line))
        elif block.language in ("", "console"):
            made += commands_in(block)
    return made


def commands_in(block: Block) -> Iterator[Command]:
    """Raises AssertionError for a comment that says nothing of the above."""
    lines = list(enumerate(block.text.splitlines(), block.line))
    prompt = "$ " if block.language == "console" else ""
    while lines:
        number, line = lines.pop(0)
        if not line.startswith(prompt) or not line.strip() or line.startswith("#"):
            continue
        line = line.removeprefix(prompt)
        while line.endswith("\\"):
            line = line[:-1] + lines.pop(0)[1].strip()
        prints = []
        while prompt and lines and not lines[0][1].startswith(prompt):
            prints.append(lines.pop(0)[1])
        yield command_of(line, number, tuple(prints))


def command_of(line: str, number: int, prints: tuple[str, ...] = ()) -> Command:
    text, _, comment = line.partition("  #")
    words = tuple(shlex.split(text))
    code = re.search(r"ends with exit code (\d)", comment)
    with_options = re.search(r"tested with (--[^;]+)", comment)
    reason = re.search(r"not tested: (.+)", comment)
    return Command(
        words,
        number,
        int(code[1]) if code else 0,
        tuple(shlex.split(with_options[1])) if with_options else (),
        reason[1] if reason else "",
        prints,
    )


def printed(expected: tuple[str, ...], text: str) -> bool:
    """Whether the lines stand in the text, whatever their spaces; see above for `...` and `…`."""

    def pattern(line: str) -> str:
        if line.strip() == "...":
            return r"(?:[^\n]*\n)*?"
        return r"[^\n]*".join(map(re.escape, " ".join(line.split()).split("…"))) + r"\n"

    wanted = "".join(pattern(line) for line in expected if line.strip())
    found = "".join(" ".join(line.split()) + "\n" for line in text.splitlines() if line.strip())
    return re.search(wanted, found) is not None


def inline_commands(text: str) -> Iterator[str]:
    """`edgekit ...` within sentences and table cells."""
    prose = FENCE.sub("", text)
    yield from re.findall(r"`(edgekit [^`]+)`", prose)


def quoted_benchmarks(text: str) -> set[str]:
    return set(re.findall(r"python (benchmarks/\w+\.py)", text))
