"""Building the coder in C, and what is said where it cannot be built."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from coding_cases import golden

import edgekit.split
from edgekit.errors import MissingEnvironmentError
from edgekit.split import coder as coder_module
from edgekit.split.coder import find_coder, why_not_native
from edgekit.split.native import NativeCoder, build, cache_folder

SOURCE = Path(edgekit.split.__file__).parent
FUZZ = Path(__file__).parent / "rans_fuzz.c"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler here")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, and no memory of what this process built."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    coder_module._native.cache_clear()
    yield tmp_path / "cache"
    coder_module._native.cache_clear()


@needs_compiler
def test_the_coder_is_built_once_into_the_cache_of_the_user(fresh: Path):
    library = build()
    assert library.parent == fresh
    assert [file.name for file in fresh.iterdir()] == [library.name]
    assert fresh.stat().st_mode & 0o077 == 0
    built = library.stat().st_mtime_ns
    assert build() == library
    assert library.stat().st_mtime_ns == built
    assert find_coder().name == "native"
    assert why_not_native() == ""


@needs_compiler
def test_many_may_build_at_once(fresh: Path):
    with ThreadPoolExecutor(4) as pool:
        libraries = set(pool.map(lambda _: build(), range(4)))
    assert len(libraries) == 1
    assert [file.name for file in fresh.iterdir()] == [libraries.pop().name]


def test_without_a_compiler_the_coder_in_python_serves(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_coder().name == "python"
    assert why_not_native().startswith("No C compiler was found (cc, gcc, clang); install")
    with pytest.raises(MissingEnvironmentError, match="coder in Python serves"):
        find_coder("native")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "echo 'rans.c:1: error: no stdint.h' >&2; exit 3",
            r"status 3: rans.c:1: error: no stdint.h",
        ),
        ("exit 0", "cannot compile the coder in C"),  # and wrote nothing
        ("echo nonsense > rans.so", "cannot be loaded"),
    ],
)
def test_a_compiler_that_fails_gets_a_sentence(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, words: str
):
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", f"{compiler} -m64")
    reason = why_not_native()
    assert words in reason
    assert "\n" not in reason
    assert find_coder().name == "python"


def test_a_compiler_that_does_not_start_gets_a_sentence(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    compiler = tmp_path / "compiler"
    compiler.write_bytes(b"\x7fELF nonsense")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert "compiler cannot be started: Exec format error; set CC" in why_not_native()


def test_a_compiler_in_cc_that_is_not_there_is_named(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CC", "nocc -O3")
    assert "No C compiler was found (nocc (from $CC))" in why_not_native()


@needs_compiler
def test_a_cache_that_cannot_be_written_gets_a_sentence(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file"))
    assert "set EDGEKIT_CACHE to a folder that can be written" in why_not_native()


def test_the_cache_is_where_the_system_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("EDGEKIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "edgekit" / "native"


@needs_compiler
def test_threads_share_one_coder(fresh: Path):
    case = golden("latent_map")
    coder = NativeCoder(build())
    with ThreadPoolExecutor(4) as pool:
        streams = list(pool.map(lambda _: coder.encode(case.tables, case.symbols), range(40)))
        decoded = list(
            pool.map(lambda s: coder.decode(case.tables, s, *case.symbols.shape), streams)
        )
    assert set(streams) == {case.stream}
    assert all(np.array_equal(d.symbols, case.symbols.ravel()) for d in decoded)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["", "-DEK_NO_INT128"])
def test_hostile_input_finds_no_undefined_behaviour(tmp_path: Path, variant: str):
    """The sanitizers end the program at the first byte out of place; so does any wrong answer."""
    assert COMPILER is not None
    program = tmp_path / "fuzz"
    strict = ["-std=c99", "-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    checked = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [str(FUZZ), str(SOURCE / "rans.c"), "-I", str(SOURCE), "-o", str(program)]
    probe = subprocess.run(
        [COMPILER, *checked, "-x", "c", "-", "-o", str(program)],
        input="int main(void) { return 0; }", capture_output=True, text=True, check=False,
    )  # fmt: skip
    if probe.returncode:
        pytest.skip("this compiler has no address and undefined-behaviour sanitizers")
    options = [variant] if variant else []
    subprocess.run([COMPILER, *strict, *checked, *options, *sources], check=True)
    done = subprocess.run([program, "8000"], capture_output=True, text=True, check=False)
    assert done.stdout == "every answer was right\n", done.stderr[:2000]
