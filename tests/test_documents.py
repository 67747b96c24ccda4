"""Every command and example of the README and of the pages in docs/ runs, in the page's order."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import (
    DOCUMENTS,
    README,
    ROOT,
    Command,
    Example,
    Part,
    WrittenFile,
    command_of,
    inline_commands,
    name_of,
    parts,
    printed,
    quoted_benchmarks,
)
from readers_files import ReadersFiles

from edgekit.cli.main import app, run_command

BUNDLE = "turbo-vaed-mini-coreml-fp16.bundle"
"""What the README's table means by BUNDLE."""
OTHER_PROGRAMS = ("python", "pip", "make", "cd", "git")


def parts_of(document: Path) -> list[Part]:
    """Of the README, commands within its table as well."""
    text = document.read_text("utf-8")
    found = parts(text)
    if document == README:
        found += [command_of(command.replace("BUNDLE", BUNDLE), 0) for command in inline_commands(text)]  # fmt: skip
    return found


def commands_of(document: Path) -> list[Command]:
    return [part for part in parts_of(document) if isinstance(part, Command)]


@dataclass
class Bench:
    """Where pages are tried out. An export that several pages have is made once."""

    files: ReadersFiles
    exported: dict[tuple[str, ...], Path] = field(default_factory=dict)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    store = tmp_path_factory.mktemp("reader")
    (store / "bundles").mkdir()
    return Bench(ReadersFiles(store))


@dataclass
class Reader:
    """Does what a page says, in a folder of its own."""

    page: str
    folder: Path
    bench: Bench
    names: dict[str, Any] = field(default_factory=dict)
    wrote: bool = False
    """Files of its own, which the same words would mean on no other page."""
    server: subprocess.Popen[str] | None = None
    seconds: list[tuple[float, str]] = field(default_factory=list)
    """Of the processor, by command; pytest shows them with `-rP`."""

    def do(self, part: Part) -> None:
        if isinstance(part, WrittenFile):
            file = self.folder / part.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(part.text)
            self.wrote = True
        elif isinstance(part, Example):
            where = f"{self.page}, line {part.line}"
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(part.text, where, "exec"), self.names)
        elif part.words[0] == "edgekit" and not part.not_tested:
            self.run(part)

    def run(self, command: Command) -> None:
        words = command.run_as()
        where = f"{self.page}, line {command.line}: edgekit {' '.join(words)}"
        if words[:2] == ["split", "serve"]:  # until Ctrl-C
            self.server = started(words)
            return
        if words[:2] == ["split", "send"]:
            words.append("--no-fallback")
        shared = words[0] in ("export", "quantize") and "-o" in words and not self.wrote
        kept = self.bench.exported.get(tuple(words))
        if shared and kept is not None and not command.prints:
            shutil.copytree(kept, self.folder / words[words.index("-o") + 1], dirs_exist_ok=True)
            return
        said = io.StringIO()
        before = time.process_time()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = run_command(words)
        self.seconds.append((time.process_time() - before, where))
        assert code == command.code, f"{where}\n{said.getvalue()}"
        assert printed(command.prints, said.getvalue()), f"{where} prints\n{said.getvalue()}"
        if shared and code == 0:
            kept = self.bench.files.store / "bundles" / str(len(self.bench.exported))
            made = self.folder / words[words.index("-o") + 1]
            shutil.copytree(made, kept)
            self.bench.exported[tuple(words)] = kept

    def leave(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            assert self.server.wait(60) == 0


def started(words: list[str]) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *words], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    assert "listening on" in server.stderr.readline()
    return server


@pytest.fixture
def reader(
    request: pytest.FixtureRequest, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    reader = Reader(name_of(request.param), tmp_path, bench)
    yield reader
    reader.leave()
    for name in [name for name in sys.modules if name.startswith("mypackage")]:
        del sys.modules[name]


def what_it_runs(document: Path) -> str:
    """All words of a page's commands and examples."""
    return "\n".join(
        " ".join(part.run_as()) if isinstance(part, Command) else part.text
        for part in parts_of(document)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "reader", [one for one in DOCUMENTS if parts_of(one)], indirect=True, ids=name_of
)
def test_all_that_a_page_says_works_in_its_order(reader: Reader) -> None:
    import torch

    torch.manual_seed(0)
    document = ROOT / reader.page
    reader.bench.files.put(what_it_runs(document), reader.folder)
    for part in parts_of(document):
        reader.do(part)
    for drawn in reader.folder.glob("*.svg"):
        shown = ROOT / "docs" / "pictures" / drawn.name
        if shown.exists():
            assert drawn.read_text() == shown.read_text(), "python benchmarks/draw_plans.py"
    sys.stdout.writelines(f"{spent:6.1f} s  {where}\n" for spent, where in reader.seconds)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_of_a_page_exists_with_its_options(document: Path) -> None:
    text = document.read_text("utf-8")
    inline = [command_of(command, 0) for command in inline_commands(text)]
    for command in [*commands_of(document), *inline]:
        assert command.words[0] in ("edgekit", *OTHER_PROGRAMS), command
        if command.words[0] == "edgekit":
            missing = options_of(command) - known_options(command.words[1:])
            assert not missing, f"{name_of(document)}: {command}"
        elif command.words[0] == "make":
            assert f"\n{command.words[1]}:" in (ROOT / "Makefile").read_text(), command
        elif command.words[0] == "python" and command.words[1].endswith(".py"):
            assert (ROOT / command.words[1]).is_file(), command


def options_of(command: Command) -> set[str]:
    words = [*command.words, *command.tested_with]
    return {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}


def known_options(words: tuple[str, ...]) -> set[str]:
    """Raises KeyError for a verb that is none."""
    verb: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(verb, "commands") and rest and not rest[0].startswith("-"):
        verb = verb.commands[rest.pop(0)]
    known = {"--help"}
    for parameter in verb.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    return known


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_benchmark_that_is_quoted_stands_there_and_explains_itself(document: Path) -> None:
    for script in quoted_benchmarks(document.read_text("utf-8")):
        assert f"python {script}" in (ROOT / script).read_text(), script


def test_what_a_command_says_of_its_test_is_taken_at_its_word() -> None:
    long = command_of(
        "edgekit distill x --steps 2000  # hours; tested with --steps 4 --workers 0", 1
    )
    assert long.run_as() == ["distill", "x", "--steps", "4", "--workers", "0"]
    assert command_of(
        "edgekit profile --device ssh://a@b  # not tested: needs a board", 1
    ).not_tested
    assert command_of("edgekit export x  # ends with exit code 3", 1).code == 3


def test_lines_that_are_said_to_be_printed_are_looked_for_in_their_order() -> None:
    said = "a  1\nb  2\nc  3\n"
    assert printed(("a 1", "...", "c …"), said)
    assert printed(("b 2", "c 3"), said)
    assert not printed(("a 1", "c 3"), said)
    assert not printed(("c 3", "...", "a 1"), said)


def test_extras_that_pages_install_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for document in DOCUMENTS:
        for named in re.findall(r"pip install '\.\[([\w,]+)\]'", document.read_text("utf-8")):
            assert set(named.split(",")) <= set(extras), name_of(document)
