"""The command line run in-process, and two bundles that every test may read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Command, Result
from small_exports import FACTORIES, write_recipe

from edgekit.cli.main import run_command


@pytest.fixture
def edgekit(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a small recipe and a module of factories."""
    write_recipe(tmp_path)
    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Bundles `onnx` (fp32) and `coreml` (fp16) of the small recipe; not to be changed."""
    folder = tmp_path_factory.mktemp("exported")
    recipe = write_recipe(folder)
    for target in ("onnx", "coreml"):
        arguments = ["export", str(recipe), "--target", target, "-o", str(folder / target)]
        assert run_command([*arguments, "--no-simplify"]) == 0
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def onnx_copy(exported: Path, tmp_path: Path) -> Path:
    """An ONNX bundle that the test may damage."""
    return Path(shutil.copytree(exported / "onnx", tmp_path / "copy"))
