from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import (
    Bundle,
    new_folder,
    open_bundle,
    require_free,
    write_golden,
    write_manifest,
)
from edgekit.errors import MissingEnvironmentError, UsageError

SPEC = {"name": "x", "shape": [1, 2], "dtype": "float32"}
FIELDS = {
    "schema": 1, "name": "net", "family": None, "model": "net.onnx", "format": "onnx",
    "target": "onnx", "precision": "fp32", "rewrites": {}, "gate": {"psnr_db": 100.0, "integers_differ": 0.0},
    "inputs": [SPEC], "outputs": [{**SPEC, "name": "y", "low": -1.0, "high": 1.0}],
    "latent_scaling": None,
}  # fmt: skip


def write(folder: Path, content: bytes = b"model") -> None:
    (folder / "net.onnx").write_bytes(content)
    write_golden(folder, {"x": np.ones((1, 2), np.float32)}, {"y": np.zeros((1, 2), np.float32)})
    write_manifest(folder, FIELDS)


def a_bundle(place: Path) -> Bundle:
    with new_folder(place, force=False) as folder:
        write(folder)
    return open_bundle(place)


def write_and_fail(place: Path, error: BaseException, *, force: bool = False) -> None:
    with new_folder(place, force=force) as folder:
        write(folder, b"successor")
        if force:
            assert open_bundle(place).changed_files() == []
        raise error


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "b")
    assert bundle.model_file.read_bytes() == b"model"
    assert bundle.inputs[0].shape == (1, 2)
    assert bundle.outputs[0].span == 2.0
    assert bundle.gate.psnr_db == 100.0
    assert bundle.scaling is None
    inputs, outputs = bundle.golden()
    assert inputs["x"].tolist() == [[1.0, 1.0]]
    assert outputs["y"].tolist() == [[0.0, 0.0]]
    assert bundle.changed_files() == []


def test_the_manifest_names_every_file_but_itself(tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "b")
    assert set(bundle.manifest["files"]) == {"net.onnx", "golden.safetensors"}


def test_changed_and_missing_files_are_found(tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "b")
    bundle.model_file.write_bytes(b"other")
    assert bundle.changed_files() == ["net.onnx"]
    bundle.model_file.unlink()
    assert bundle.changed_files() == ["net.onnx"]


def test_golden_tensors_need_not_be_contiguous(tmp_path: Path) -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_golden(tmp_path, {"x": turned}, {})
    write_manifest(tmp_path, FIELDS)
    np.testing.assert_array_equal(open_bundle(tmp_path).golden()[0]["x"], turned)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_error_or_interrupt_while_writing_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        write_and_fail(tmp_path / "new" / "b", error())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
    ],
)
def test_a_full_disk_is_an_environment_error(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(MissingEnvironmentError, match="No space left on device; choose"):
        write_and_fail(tmp_path / "b", error)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_stays_until_its_successor_is_complete(tmp_path: Path) -> None:
    place = tmp_path / "b"
    a_bundle(place)
    with pytest.raises(ZeroDivisionError):
        write_and_fail(place, ZeroDivisionError(), force=True)
    assert open_bundle(place).model_file.read_bytes() == b"model"
    with new_folder(place, force=True) as folder:
        write(folder, b"successor")
    assert open_bundle(place).model_file.read_bytes() == b"successor"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_rename_that_fails_puts_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "b"
    a_bundle(place)
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if "partial" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(MissingEnvironmentError), new_folder(place, force=True) as folder:
        write(folder, b"successor")
    assert open_bundle(place).model_file.read_bytes() == b"model"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_leftover_of_a_killed_process_with_this_number_is_swept_away(tmp_path: Path) -> None:
    leftover = tmp_path / f".b.partial-{os.getpid()}"
    leftover.mkdir()
    (leftover / "half").touch()
    bundle = a_bundle(tmp_path / "b")
    assert set(bundle.manifest["files"]) == {"net.onnx", "golden.safetensors"}
    assert not leftover.exists()


def test_a_relative_place_is_meant_from_where_the_export_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with new_folder(Path("b"), force=False) as folder:
        monkeypatch.chdir(tmp_path / "elsewhere")
        write(folder)
    assert open_bundle(tmp_path / "b").changed_files() == []


def test_what_a_library_wrote_for_itself_alone_is_as_open_as_the_user_s_other_files(
    tmp_path: Path,
) -> None:
    before = os.umask(0o022)
    try:
        with new_folder(tmp_path / "b", force=False) as folder:
            (folder / "weights").mkdir(mode=0o700)
            write(folder)
            (folder / "weights" / "private.bin").touch(mode=0o600)
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "b").rglob("*")}
    assert modes.pop("weights") == oct(0o755)
    assert set(modes.values()) == {oct(0o644)}


def test_a_free_place_is_free(tmp_path: Path) -> None:
    require_free(tmp_path / "a" / "b", force=False)


def test_a_folder_without_permission_is_an_environment_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(MissingEnvironmentError, match="may not be written"):
        require_free(tmp_path / "b", force=False)


def test_a_page_that_has_a_manifest_of_its_own_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "page", "icons": []}))
    with pytest.raises(UsageError, match="is no bundle, so --force does not replace it"):
        require_free(tmp_path, force=True)
