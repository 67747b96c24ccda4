"""Every command of the README runs."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from marked_pictures import write_marked_pictures, write_talkative_weights

from edgekit.cli.main import run_command

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BUNDLE = "turbo-vaed-mini-coreml-fp16.bundle"


def commands() -> list[str]:
    """Lines of code blocks and table cells that start with `edgekit`."""
    blocks = re.findall(r"^(?:\$ )?(edgekit [^\n`]+)$", README, flags=re.MULTILINE)
    cells = re.findall(r"`(edgekit [^`]+)`", README)
    return list(dict.fromkeys([*blocks, *cells]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with what the README's reader has: a checkpoint, a latent, a factory."""
    import numpy as np
    import torch

    folder = tmp_path_factory.mktemp("readme")
    torch.manual_seed(0)
    from edgekit.recipe import find_recipe
    from edgekit.zoo.families import build_network

    torch.save(
        build_network(find_recipe("turbo-vaed-ltx")).state_dict(), folder / "Turbo-VAED-LTX.pth"
    )
    np.save(folder / "z.npy", np.zeros((1, 32, 5, 32, 32), np.float32))
    _make_clips_and_teacher(folder)
    _make_pictures_with_boxes(folder)
    _make_ssd(folder / "ssd-mobilenet-v2.safetensors")
    write_talkative_weights("leyolo-composites", folder / "trained.safetensors")
    write_marked_pictures(
        "leyolo-composites", folder / "trained.safetensors", folder / "known.json", folder / "known"
    )
    package = folder / "mypackage"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(
        "import torch\n\n\ndef make_net():\n"
        "    return torch.nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 8, 8),)\n"
    )
    return folder


def _make_clips_and_teacher(folder: Path) -> None:
    """clips/ with a video of ten frames, and taef2/ with random weights."""
    import av
    import numpy as np
    import torch

    from edgekit.distillation import taef2

    (folder / "taef2").mkdir()
    for part, network in (("encoder", taef2.encoder()), ("decoder", taef2.decoder())):
        torch.save(network.state_dict(), folder / "taef2" / f"taef2_{part}.pth")
    (folder / "clips").mkdir()
    with av.open(str(folder / "clips" / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "bgr0"
        for grey in range(100, 110):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), grey, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _make_ssd(path: Path) -> None:
    """A teacher that sees people everywhere."""
    import torch
    from safetensors.torch import save_file

    from edgekit.recipe import find_recipe
    from edgekit.zoo.families import build_network

    network: Any = build_network(find_recipe("ssd-mobilenet-v2"))
    with torch.no_grad():
        for head in network.class_heads:
            head[0].weight.zero_()
            head[0].bias[1] = 5.0
    save_file(network.state_dict(), path)


def _make_pictures_with_boxes(folder: Path) -> None:
    from PIL import Image

    picture = Image.effect_noise((400, 300), 60).convert("RGB")
    picture.save(folder / "street.jpg")
    (folder / "pictures").mkdir()
    picture.save(folder / "pictures" / "1.jpg")
    marked = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 400, "height": 300}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [9, 9, 90, 90], "area": 8100, "iscrowd": 0}
        ],
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(marked))


def test_the_readme_names_every_verb() -> None:
    verbs = {command.split()[1] for command in commands()}
    assert verbs == {
        "list", "info", "export", "run", "verify", "plan", "inspect", "doctor", "distill", "evaluate", "label",
        "split", "profile", "quantize", "prune", "compress",
        "calibrate", "serve",
    }  # fmt: skip


@pytest.mark.slow
def test_every_readme_command_succeeds_in_the_readme_s_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    server: subprocess.Popen[str] | None = None
    for command in commands():
        words = shlex.split(command.replace("BUNDLE", BUNDLE))[1:]
        if "turbo-vaed-ltx" in words:  # 512x512x17 takes minutes and 7 GB here
            words[words.index("512x512")] = "64x64"
            words[words.index("17")] = "9"
        if "label" in words:  # of ten frames
            words[words.index("5")] = "2"
        if "distill" in words:  # hours
            words[words.index("2000")] = "4"
            words += ["--workers", "0"]
        if words[:2] == ["split", "serve"]:  # until Ctrl-C
            server = subprocess.Popen(
                [sys.executable, "-m", "edgekit", *words], stderr=subprocess.PIPE, text=True
            )
            assert server.stderr is not None
            assert "listening on" in server.stderr.readline()
            continue
        if words[0] == "serve":  # until Ctrl-C, where the page was built
            _serve_and_stop(words)
            continue
        if words[:2] == ["split", "send"]:
            words.append("--no-fallback")
        assert run_command(words) == 0, command
    assert server is not None
    server.send_signal(signal.SIGINT)
    assert server.wait(60) == 0


def _serve_and_stop(words: list[str]) -> None:
    command = [sys.executable, "-m", "edgekit", *words, "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as host:
        assert host.stderr is not None
        said = host.stderr.readline()
        host.send_signal(signal.SIGINT)
        built = "Ctrl-C stops" in said
        assert host.wait(60) == (0 if built else 4)
        assert built or "npm run build" in said


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = python_example("edgekit.verify(")
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "net.bundle" / "manifest.json").is_file()


def test_the_distillation_example_teaches_what_its_teacher_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    made: dict[str, Any] = {}
    exec(compile(python_example("edgekit.distill("), "README.md", "exec"), made)
    assert (tmp_path / "small.bundle" / "manifest.json").is_file()
    pictures, labels = torch.utils.data.default_collate(made["data"])
    for name in ("wide", "small"):
        right = (made[name](pictures).argmax(1) == labels).float().mean()
        assert right > 0.95, name


def python_example(containing: str) -> str:
    """The one block of Python that has these words."""
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def test_every_file_the_readme_links_to_exists() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_every_benchmark_that_is_quoted_stands_there_and_explains_itself() -> None:
    quoted = set(re.findall(r"python (benchmarks/\w+\.py)", README))
    quoted |= set(
        re.findall(r"python (benchmarks/\w+\.py)", (ROOT / "models/turbo-vaed-mini.md").read_text())
    )
    assert len(quoted) >= 6
    for script in quoted:
        assert f"python {script}" in (ROOT / script).read_text(), script


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        ("onnx_speed.py", ["--size", "32x32", "--frames", "2", "--rounds", "1"], "times as fast"),
        ("startup.py", [], "import edgekit loads"),
        ("split_coding.py", [], "| Entropic Student 24x55x55 | 72600 | 3.2886 | 3.2881 |"),
    ],
)
def test_a_benchmark_prints_what_the_table_quotes(
    script: str, options: list[str], words: str
) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
