from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import fetch_assets
import pytest
from fetch_assets import Asset, AssetError, fetch, locked

CLIP = b"a clip of many frames " * 1000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], compression: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def ar(members: dict[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def deb() -> bytes:
    return ar(
        {
            "debian-binary": b"2.0\n",
            "control.tar.xz": b"odd",
            "data.tar.xz": tarred({"./usr/share/clip.avi": CLIP}, "xz"),
        }
    )


PACKAGES = {
    "wheel": ("shown/data/clip.avi", zipped({"shown/data/clip.avi": CLIP})),
    "sdist": ("shown-1.0/clip.avi", tarred({"shown-1.0/clip.avi": CLIP}, "gz")),
    "nested": (
        "shown-1.0/films.zip!films/clip.avi",
        tarred({"shown-1.0/films.zip": zipped({"films/clip.avi": CLIP})}, "gz"),
    ),
    "deb": ("usr/share/clip.avi", deb()),
}


def entry(form: str) -> Asset:
    member, package = PACKAGES[form]
    return Asset(
        name="clip",
        registry="debian" if form == "deb" else "pypi",
        package="shown",
        version="1.0",
        kind="sdist" if form == "nested" else form,
        archive="shown-1.0-py3-none-any.whl" if form == "wheel" else "shown-1.0.archive",
        archive_sha256=sha256(package),
        member=member,
        sha256=sha256(CLIP),
        licence="CC0",
        note="",
    )


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands in for pip and apt-get: delivers the package that the entry names; lists the calls."""
    calls: list[list[str]] = []

    def run(command: list[str], folder: Path, wanted: Asset) -> None:
        calls.append(command)
        by_hash = {sha256(package): package for _, package in PACKAGES.values()}
        delivered = by_hash.get(wanted.archive_sha256, PACKAGES["wheel"][1])
        (folder / wanted.archive).write_bytes(delivered)

    monkeypatch.setattr(fetch_assets, "_run", run)
    monkeypatch.setattr(fetch_assets.shutil, "which", lambda name: f"/bin/{name}")
    return calls


@pytest.mark.parametrize("form", PACKAGES)
def test_a_member_comes_out_of_every_kind_of_package(
    tmp_path: Path, registry: list[list[str]], form: str
) -> None:
    path = fetch(entry(form), tmp_path / "new")
    assert path == tmp_path / "new" / "clip.avi"
    assert path.read_bytes() == CLIP
    assert [p.name for p in path.parent.iterdir()] == ["clip.avi"]


def test_a_file_that_is_already_there_is_not_fetched_again(
    tmp_path: Path, registry: list[list[str]]
) -> None:
    fetch(entry("wheel"), tmp_path)
    fetch(entry("wheel"), tmp_path)
    assert len(registry) == 1


def test_a_damaged_file_is_replaced(tmp_path: Path, registry: list[list[str]]) -> None:
    (tmp_path / "clip.avi").write_bytes(CLIP[:100])
    assert fetch(entry("wheel"), tmp_path).read_bytes() == CLIP


def test_a_package_with_another_hash_is_not_opened(
    tmp_path: Path, registry: list[list[str]]
) -> None:
    with pytest.raises(AssetError, match="another file than the locked one"):
        fetch(replace(entry("wheel"), archive_sha256="0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_member_with_another_hash_is_not_kept(tmp_path: Path, registry: list[list[str]]) -> None:
    (tmp_path / "clip.avi").write_bytes(b"older")
    with pytest.raises(AssetError, match="instead of 0000"):
        fetch(replace(entry("deb"), sha256="0" * 64), tmp_path)
    assert (tmp_path / "clip.avi").read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["clip.avi"]


@pytest.mark.parametrize("form", PACKAGES)
def test_a_member_that_is_not_in_the_package_is_named(
    tmp_path: Path, registry: list[list[str]], form: str
) -> None:
    wanted = entry(form)
    with pytest.raises(AssetError, match=r"absent.avi cannot be read out of"):
        fetch(replace(wanted, member=wanted.member.replace("clip.avi", "absent.avi")), tmp_path)


def test_pip_is_told_the_hash_so_that_no_foreign_build_script_runs(
    tmp_path: Path, registry: list[list[str]]
) -> None:
    fetch(entry("sdist"), tmp_path)
    assert "--require-hashes" in registry[0]
    assert "--no-build-isolation" in registry[0]


def test_a_wheel_for_one_python_is_fetched_from_every_python(
    tmp_path: Path, registry: list[list[str]]
) -> None:
    fetch(replace(entry("wheel"), archive="shown-1.0-cp311-none-manylinux1_x86_64.whl"), tmp_path)
    command = " ".join(registry[0])
    assert "--implementation cp --python-version 311" in command
    assert "--abi none --platform manylinux1_x86_64" in command


def test_a_registry_that_refuses_is_quoted_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(AssetError) as caught:
        fetch(entry("wheel"), tmp_path)
    message = str(caught.value)
    assert "shown 1.0 (ERROR: No matching distribution)" in message
    assert "check the network" in message
    assert "\n" not in message


def test_a_machine_without_apt_is_told_what_to_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_assets.shutil, "which", lambda _: None)
    with pytest.raises(AssetError, match=r"no apt-get; copy clip.avi"):
        fetch(entry("deb"), tmp_path)


def test_the_command_line_fetches_and_reports_failures(
    tmp_path: Path, registry: list[list[str]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broken = replace(entry("wheel"), name="broken", sha256="0" * 64, member="shown/data/none.avi")
    monkeypatch.setattr(fetch_assets, "locked", lambda: {"clip": entry("wheel"), "broken": broken})
    assert fetch_assets.main(["clip", "--into", str(tmp_path)]) == 0
    assert fetch_assets.main(["all", "--into", str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert str(tmp_path / "clip.avi") in output.out
    assert output.err.startswith("error: shown/data/none.avi cannot be read")


# The lock file


@pytest.mark.parametrize("locked_entry", locked().values(), ids=lambda e: e.name)
def test_every_entry_is_complete(locked_entry: Asset) -> None:
    assert (locked_entry.registry, locked_entry.kind) in {
        ("pypi", "wheel"),
        ("pypi", "sdist"),
        ("debian", "deb"),
    }
    assert re.fullmatch(r"[0-9a-f]{64}", locked_entry.sha256)
    assert re.fullmatch(r"[0-9a-f]{64}", locked_entry.archive_sha256)
    assert quote(locked_entry.version, safe="+~").lower() in locked_entry.archive.lower()
    assert locked_entry.licence
    assert locked_entry.note


def test_no_two_entries_write_the_same_file() -> None:
    names = [e.filename for e in locked().values()]
    assert len(set(names)) == len(names)


# For tests


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_ASSETS", str(tmp_path))
    monkeypatch.setattr(fetch_assets, "locked", lambda: {"clip": entry("wheel")})
    return tmp_path


def test_an_asset_is_found_only_with_the_right_content(folder: Path) -> None:
    assert fetch_assets.asset("clip") is None
    (folder / "clip.avi").write_bytes(b"something else")
    assert fetch_assets.asset("clip") is None
    (folder / "clip.avi").write_bytes(CLIP)
    assert fetch_assets.asset("clip") == folder / "clip.avi"


@pytest.mark.parametrize("ci", ["true", "false"])
def test_an_absent_asset_skips_even_in_ci(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.skip.Exception, match=r"fetch_assets.py clip"):
        fetch_assets.asset_or_skip("clip")


def test_an_absent_shared_file_skips_here_and_fails_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_assets, "SHARED", tmp_path)
    (tmp_path / "golden").mkdir()
    assert fetch_assets.shared_or_skip("golden") == tmp_path / "golden"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception):
        fetch_assets.shared_or_skip("weights")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"\.\./shared/weights is not beside"):
        fetch_assets.shared_or_skip("weights")


def test_the_script_runs_without_the_package_or_pytest() -> None:
    script = Path(fetch_assets.__file__)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert f"{', '.join(locked())}, or all" in " ".join(done.stdout.split())


STAMPS = {"birds/crow.png": b"a crow", "birds/owl.png": b"an owl", "fish/carp.png": b"a carp"}


def folder_entry(kind: str) -> tuple[Asset, bytes]:
    member = "usr/share/stamps/"
    files = {member + name: content for name, content in STAMPS.items()} | {
        "usr/other": b"no stamp"
    }
    if kind == "wheel":
        package = zipped(files)
    else:
        package = tarred({f"./{name}": content for name, content in files.items()}, "xz")
        package = ar({"debian-binary": b"2.0\n", "data.tar.xz": package})
    lines = [f"{sha256(STAMPS[name])}  {name}\n" for name in sorted(STAMPS)]
    return (
        replace(
            entry("wheel"), name="stamps", kind=kind, archive="stamps.archive", member=member,
            registry="debian", archive_sha256=sha256(package), sha256=sha256("".join(lines).encode()),
        ),
        package,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["wheel", "deb"])
def test_a_folder_of_a_package_comes_out_whole_once(
    tmp_path: Path, registry: list[list[str]], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    wanted, package = folder_entry(kind)
    monkeypatch.setitem(PACKAGES, "stamps", (wanted.member, package))
    path = fetch(wanted, tmp_path)
    assert path == tmp_path / "stamps"
    found = {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }
    assert found == STAMPS
    fetch(wanted, tmp_path)
    assert len(registry) == 1
    (path / "birds/owl.png").write_bytes(b"half an ow")
    fetch(wanted, tmp_path)
    assert (path / "birds/owl.png").read_bytes() == b"an owl"
    assert [p.name for p in tmp_path.iterdir()] == ["stamps"]


def test_a_folder_with_another_hash_leaves_what_was_there(
    tmp_path: Path, registry: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, package = folder_entry("deb")
    monkeypatch.setitem(PACKAGES, "stamps", (wanted.member, package))
    (tmp_path / "stamps").mkdir()
    (tmp_path / "stamps" / "older.png").write_bytes(b"older")
    with pytest.raises(AssetError, match="instead of 0000"):
        fetch(replace(wanted, sha256="0" * 64), tmp_path)
    assert [p.name for p in (tmp_path / "stamps").iterdir()] == ["older.png"]
    assert [p.name for p in tmp_path.iterdir()] == ["stamps"]
