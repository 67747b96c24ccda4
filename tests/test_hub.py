from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import pytest

from edgekit.errors import MissingEnvironmentError
from edgekit.hub import download_official


def hub_refusal(repository: str = "someone/decoder") -> str:
    with pytest.raises(MissingEnvironmentError) as caught:
        download_official(repository, "decoder.pth", None)
    message = str(caught.value)
    assert repository in message
    assert "decoder.pth" in message
    assert "--weights FILE" in message
    assert "\n" not in message
    return message


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub library with an empty cache, speaking to a port where nobody listens."""
    constants = pytest.importorskip("huggingface_hub.constants")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path


def test_an_unreachable_hub_is_reported_within_seconds(empty_hub: Path) -> None:
    started = time.monotonic()
    assert "the hub cannot be reached" in hub_refusal()
    assert time.monotonic() - started < 10


def test_offline_mode_is_named_as_the_reason(
    empty_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in hub_refusal()


def test_a_cached_file_serves_when_the_hub_is_away(empty_hub: Path) -> None:
    commit = "0" * 40
    repository = empty_hub / "models--someone--decoder"
    cached = repository / "snapshots" / commit / "decoder.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"weights")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert download_official("someone/decoder", "decoder.pth", None) == cached


def test_a_name_that_is_no_repository_is_explained(empty_hub: Path) -> None:
    assert "not a repository name" in hub_refusal("a/b/c")


def test_a_missing_hub_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'edgekit-vision[hub]'" in hub_refusal()
