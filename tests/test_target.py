from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.data_folder import data_folder
from edgekit.errors import UsageError
from edgekit.target import Target, all_targets, find_target, read_target

WRITTEN = (data_folder("export") / "coreml.toml").read_text(encoding="utf-8")


def changed(folder: Path, old: str, new: str) -> Path:
    assert old in WRITTEN
    path = folder / "mine.toml"
    path.write_text(WRITTEN.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize("target", all_targets(), ids=lambda target: target.name)
def test_a_target_is_named_like_its_file_and_gates_every_precision(target: Target) -> None:
    assert (data_folder("export") / f"{target.name}.toml").is_file()
    assert find_target(target.name) == target
    assert set(target.precisions) <= target.gates.keys()
    assert target.lints.max_rank >= 5


def test_the_first_precision_is_the_default() -> None:
    target = find_target("coreml")
    assert target.require_precision(None) == "fp16"
    assert target.require_precision("fp32") == "fp32"


def test_a_precision_that_is_not_written_is_an_error_with_the_choice() -> None:
    with pytest.raises(UsageError, match="'coreml' does not write int8; it writes fp16, fp32"):
        find_target("coreml").require_precision("int8")


def test_a_target_is_found_by_path(tmp_path: Path) -> None:
    mine = changed(tmp_path, 'name = "coreml"', 'name = "mine"')
    assert find_target(str(mine)).name == "mine"


def test_an_unknown_target_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="no target 'core-ml'; did you mean 'coreml'"):
        find_target("core-ml")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("max_rank = 5", "", "has no 'max_rank'"),
        ("fp16 = 50.0", "", "has no 'fp16'"),
        ('precisions = ["fp16", "fp32"]', 'precisions = ["half"]', "'precisions'"),
        ('minimum_os = "iOS17"', "", "has no 'minimum_os'"),
        ('format = "coreml"', 'form = "coreml"', "form"),
        ("max_rank = 5", "max_rank = ", "is no valid TOML"),
    ],
)
def test_a_target_that_cannot_be_read_names_the_file_and_the_field(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        read_target(changed(tmp_path, old, new))
    assert "mine.toml" in str(caught.value)


def test_a_target_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.toml cannot be read: No such file"):
        read_target(tmp_path / "absent.toml")
