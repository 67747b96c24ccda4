"""What `edgekit serve` gives away, to whom, and what it says when it cannot."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit.bundle import Bundle, open_bundle, write_manifest
from edgekit.cli.main import run_command
from edgekit.errors import MissingEnvironmentError, UsageError
from edgekit.serving import site as site_module
from edgekit.serving.host import Host
from edgekit.serving.site import page_folder, site

FIELDS = {
    "schema": 1, "name": "b", "family": None, "model": "model.onnx", "format": "onnx", "target": "onnx",
    "precision": "fp32", "rewrites": {}, "gate": {"psnr_db": 100, "integers_differ": 0}, "inputs": [],
    "outputs": [],
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "b.bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"model")
    write_manifest(folder, FIELDS)
    (folder / "secret.txt").write_text("not of the bundle")
    return open_bundle(folder)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "ort-1.0.0").mkdir(parents=True)
    (folder / "index.html").write_text("the page")
    (folder / "ort-1.0.0" / "runtime.wasm").write_bytes(b"\0asm")
    return folder


@contextmanager
def listening(host: Host) -> Iterator[int]:
    server = host.listen(0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def port(page: Path, bundle: Bundle) -> Iterator[int]:
    with listening(Host(site(page, bundle))) as number:
        yield number


def asked(
    port: int, address: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, address, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def test_the_page_and_the_bundle_s_files_are_served_isolated_from_other_origins(port: int) -> None:
    status, headers, body = asked(port, "/")
    assert (status, body) == (200, b"the page")
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert asked(port, "/bundle/model.onnx")[2] == b"model"
    status, headers, body = asked(port, "/bundle/model.onnx", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "5", b"")
    assert asked(port, "/ort-1.0.0/runtime.wasm")[1]["Content-Type"] == "application/wasm"
    assert json.loads(asked(port, "/host.json")[2]) == {
        "split": None, "input": False, "reference": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "address",
    [
        "/bundle/secret.txt", "/bundle/../secret.txt", "/bundle/%2e%2e/secret.txt", "//etc/passwd",
        "/../b.bundle/secret.txt", "/bundle/", "/input", "/packet", "/bundle/model.onnx/",
    ],
)  # fmt: skip
def test_nothing_else_is_served(port: int, address: str) -> None:
    status, _, body = asked(port, address)
    assert status == 404
    assert b"not of the bundle" not in body


def test_a_file_is_kept_for_good_only_under_an_address_that_names_its_version(
    port: int, bundle: Bundle
) -> None:
    digest = bundle.manifest["files"]["model.onnx"]
    for address, kept in (
        ("/bundle/model.onnx", False),
        (f"/bundle/model.onnx?sha256={digest}", True),
        ("/bundle/model.onnx?sha256=another", False),
        ("/ort-1.0.0/runtime.wasm", True),
        ("/", False),
    ):
        assert ("immutable" in asked(port, address)[1]["Cache-Control"]) == kept, address


def test_a_page_of_elsewhere_is_refused_though_its_name_leads_here(port: int) -> None:
    assert asked(port, "/", Host="stranger.example")[0] == 404
    assert asked(port, "/", Host=f"localhost:{port}")[0] == 200
    assert asked(port, "/", Origin="http://stranger.example")[0] == 404
    assert asked(port, "/packet", "POST", b"x", Origin="http://stranger.example")[0] == 404


def test_packets_are_refused_with_a_sentence_where_no_server_was_named(port: int) -> None:
    status, _, body = asked(port, "/packet", "POST", b"packet")
    assert status == 404
    assert b"start it with --split HOST:PORT" in body


def test_a_bundle_that_no_browser_runs_or_that_was_changed_is_refused(
    page: Path, bundle: Bundle, tmp_path: Path
) -> None:
    other = Bundle(bundle.path, {**bundle.manifest, "format": "coreml"})
    with pytest.raises(UsageError, match="export it with --target onnx"):
        site(page, other)
    with pytest.raises(UsageError, match="There is no file"):
        site(page, bundle, input=tmp_path / "none.png")
    (bundle.path / "model.onnx").write_bytes(b"another")
    with pytest.raises(UsageError, match=r"model\.onnx of .* is not the file that was exported"):
        site(page, bundle)


def test_a_page_that_was_not_built_is_one_sentence_that_says_how(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(site_module, "data_folder", lambda _: tmp_path / "export")
    with pytest.raises(MissingEnvironmentError, match="npm ci && npm run build"):
        page_folder()
    assert run_command(["serve", str(bundle.path), "--no-browser"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("edgekit: The page has not been built here")


def test_a_port_that_is_taken_is_named(port: int, page: Path, bundle: Bundle) -> None:
    with pytest.raises(MissingEnvironmentError, match="choose another --port"):
        Host(site(page, bundle)).listen(port)


def test_a_token_without_a_server_is_a_usage_error(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["serve", str(bundle.path), "--token-file", str(tmp_path / "t"), "--no-browser"]
    assert run_command(arguments) == 2
    assert "--token-file belongs to --split" in capsys.readouterr().err
    shutil.rmtree(bundle.path)
    assert run_command(["serve", str(bundle.path), "--no-browser"]) == 2


def test_ctrl_c_ends_a_host_without_a_complaint(bundle: Bundle, page: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from edgekit.serving import site;"
        f"site.data_folder = lambda _: Path({str(page.parent / 'export')!r});"
        "from edgekit.cli.main import main; main()"
    )
    (page.parent / "export" / "web").mkdir(parents=True)
    shutil.copytree(page, page.parent / "export" / "web" / "dist")
    arguments = ["serve", str(bundle.path), "--no-browser", "--port", "0", "--json"]
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as host:
        assert host.stderr is not None
        assert "Ctrl-C stops" in host.stderr.readline()
        host.send_signal(signal.SIGINT)
        out, err = host.communicate(timeout=60)
    assert (host.returncode, err) == (0, "")
    assert json.loads(out)["address"].startswith("http://127.0.0.1:")
