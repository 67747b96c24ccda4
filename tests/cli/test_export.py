from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Command, leftovers
from safetensors.torch import save_file
from small_exports import LATENT

import edgekit
from edgekit.backends.onnx.load import load
from edgekit.backends.registry import BACKENDS, OnnxBackend

SMALL = "small.toml"
FILES = {"onnx": "small-mini.onnx", "coreml": "small-mini.mlpackage"}


def test_json_is_one_strict_value_and_has_the_promised_fields(
    edgekit: Command, place: Path
) -> None:
    result = edgekit("export", "factories:chatty", "--target", "coreml", "--json")
    assert result.code == 0
    facts = result.json()
    assert {"bundle", "target", "precision", "files", "parity", "seconds"} <= set(facts)
    assert facts["parity"]["passed"] is True
    assert facts["bundle"] == "chatty-coreml-fp16.bundle"
    assert "loading the model" in result.err  # what a factory prints is no result
    manifest = json.loads((place / facts["bundle"] / "manifest.json").read_text())
    assert facts["files"] == manifest["files"]


def test_without_verification_the_parity_is_null(edgekit: Command, place: Path) -> None:
    arguments = ["export", "factories:make", "--target", "coreml", "--no-verify", "--json"]
    assert edgekit(*arguments).json()["parity"] is None


def test_the_dry_run_writes_nothing_and_gives_strict_json(edgekit: Command, place: Path) -> None:
    before = set(place.iterdir())
    result = edgekit("export", SMALL, "--target", "coreml", "--dry-run", "--json")
    assert result.code == 0
    assert result.json()["convertible"] is True
    assert {"rule", "node", "source", "applied", "reason"} <= set(result.json()["rewrites"][0])
    text = edgekit("export", SMALL, "--target", "coreml", "--dry-run")
    assert "frames-as-batch" in text.out
    assert "nothing in the way of a conversion" in text.out
    assert set(place.iterdir()) == before


def test_size_and_frames_reach_the_file(edgekit: Command, place: Path) -> None:
    options = ["--size", "24x16", "--frames", "1", "--no-verify", "--json"]
    result = edgekit("export", SMALL, "--target", "coreml", *options)
    assert result.code == 0
    facts = edgekit("inspect", result.json()["bundle"], "--json").json()
    assert facts["inputs"] == ["latent fp32 1x4x1x3x2"]
    assert facts["outputs"] == ["video fp32 1x3x1x24x16"]


class Weights:
    """Checkpoints of the small recipe, sound and damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.manual_seed(7)
        module = edgekit.load(str(folder / SMALL)).module
        self.state = {
            key: torch.randn_like(value) / 8 for key, value in module.state_dict().items()
        }
        self.first = next(iter(self.state))

    def write(self, kind: str) -> Path:
        state, first = dict(self.state), self.first
        path = self.folder / f"{kind}.safetensors"
        if kind == "missing-key":
            del state[first]
        elif kind == "extra-key":
            state["extra"] = torch.ones(1)
        elif kind == "shape":
            state[first] = torch.ones(2, 2)
        elif kind == "nan":
            state[first] = state[first] * float("nan")
        elif kind == "wrapped":
            path = path.with_suffix(".pth")
            torch.save({"state_dict": {f"module.decoder.{k}": v for k, v in state.items()}}, path)
            return path
        elif kind == "code":
            path = path.with_suffix(".pth")
            torch.save({"state_dict": state, "model": torch.nn.ReLU()}, path)
            return path
        save_file(state, path)
        if kind == "truncated":
            path.write_bytes(path.read_bytes()[:2000])
        return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing-key", "lacks 1 of the"),
        ("extra-key", "extra"),
        ("shape", "of shape (2, 2)"),
        ("nan", "NaN or infinite"),
        ("code", "never executes pickled code"),
        ("truncated", "truncated or corrupt"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence(
    edgekit: Command, place: Path, kind: str, words: str
) -> None:
    path = Weights(place).write(kind)
    before = set(place.iterdir())
    for name in (path, place / "none.pth"):
        result = edgekit("export", SMALL, "--target", "onnx", "--weights", name)
        assert result.code == 2
        assert result.is_one_sentence(), result
        assert name.name in result.err
    assert words in edgekit("export", SMALL, "--target", "onnx", "--weights", path).err
    assert set(place.iterdir()) == before


def test_a_wrapped_checkpoint_is_what_the_file_computes_with(edgekit: Command, place: Path) -> None:
    weights = Weights(place)
    path = weights.write("wrapped")
    assert edgekit("export", SMALL, "--target", "coreml", "--precision", "fp32", "--weights", path, "-o", "out").code == 0  # fmt: skip
    from edgekit.api import load as load_model
    from edgekit.api import run

    module = load_model(str(place / SMALL)).module
    module.load_state_dict(weights.state)
    latent = torch.randn(LATENT)
    expected = module(latent).detach().numpy()
    np.testing.assert_allclose(run("out", latent.numpy())[0], expected, atol=1e-4)
    manifest = json.loads((place / "out" / "manifest.json").read_text())
    assert manifest["weights"].startswith("wrapped.pth")


def test_a_backend_that_writes_wrong_weights_fails_parity(
    edgekit: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    write = OnnxBackend.write

    def corrupt(
        self: OnnxBackend, program: object, path: Path, *rest: object, **more: object
    ) -> None:
        write(self, program, path, *rest, **more)  # type: ignore[arg-type]
        model = onnx.load(path)
        weight = model.graph.initializer[0]
        values = onnx.numpy_helper.to_array(weight) + np.float32(0.1)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, path)

    monkeypatch.setattr(OnnxBackend, "write", corrupt)
    before = set(place.iterdir())
    result = edgekit("export", "factories:make", "--target", "onnx", "--no-simplify", "--json")
    assert result.code == 3
    assert result.is_one_sentence(), result
    assert "is below the gate of 100 dB" in result.err
    assert set(place.iterdir()) - {place / "__pycache__"} == before - {place / "__pycache__"}
    assert edgekit("export", "factories:make", "--target", "onnx", "--no-simplify", "--no-verify", "-o", "bad").code == 0  # fmt: skip
    judged = edgekit("verify", "bad", "--json")
    assert judged.code == 3
    assert judged.json()["passed"] is False
    assert edgekit("verify", "bad").code == 3


VARIANTS = [("onnx", "fp32"), ("coreml", "fp16")]
AGAIN = """
import sys
from edgekit.cli.main import run_command
for name in sys.argv[2:]:
    target, precision = name.split("-")
    code = run_command(["export", sys.argv[1], "--target", target, "--precision", precision, "-o", name])
    assert code == 0, code
"""


def contents(bundle: Path) -> dict[str, bytes]:
    files = [path for path in bundle.rglob("*") if path.is_file()]
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_two_exports_are_the_same_bytes_and_name_no_machine(
    edgekit: Command, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    names = [f"{target}-{precision}" for target, precision in VARIANTS]
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run(
        [sys.executable, "-c", AGAIN, str(place / SMALL), *names],
        cwd=elsewhere, env=environment, check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    for target, precision in VARIANTS:
        options = [
            "--target",
            target,
            "--precision",
            precision,
            "-o",
            f"another/{target}{precision}",
        ]
        assert edgekit("export", SMALL, *options).code == 0
        here = contents(place / "another" / f"{target}{precision}")
        assert here == contents(elsewhere / f"{target}-{precision}")
        for name, data in here.items():
            for trace in (*_traces_of_this_machine(), str(place), str(elsewhere)):
                assert trace.encode() not in data, (name, trace)


def _traces_of_this_machine() -> list[str]:
    import getpass
    import platform
    import time

    import edgekit as package

    source = Path(package.__file__).parent
    traces = [
        str(source), str(source.parent), sys.prefix, str(Path.home()) + "/", "site-packages",
        platform.node(), f"/{getpass.getuser()}/", "/tmp", "partial", time.strftime("%Y-%m-"),
    ]  # fmt: skip
    return [trace for trace in traces if len(trace) > 3]  # a shorter one stands anywhere by chance


START = "from edgekit.cli.main import main; main()"


def _wait_for_conversion(process: subprocess.Popen[str], folder: Path) -> None:
    """Until the partial folder is there."""
    import time

    end = time.monotonic() + 120
    while not leftovers(folder):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_a_library_swallows_still_ends_the_export(place: Path, name: str) -> None:
    """The converter is replaced by one with a bare `except` around the moment of the signal."""
    swallow = (
        "import os, signal\n"
        "from edgekit.backends.registry import OnnxBackend\n"
        "def write(self, program, path, target, **options):\n"
        f"    try: os.kill(os.getpid(), signal.{name})\n"
        "    except BaseException: pass\n"
        "    path.write_bytes(b'half a file')\n"
        "OnnxBackend.write = write\n"
    )
    command = [
        sys.executable,
        "-c",
        swallow + START,
        "export",
        "factories:make",
        "--target",
        "onnx",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    assert "Interrupted; nothing was written." in done.stderr
    assert not leftovers(place)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_meets_a_destructor_is_told_in_one_sentence(place: Path, name: str) -> None:
    """As the tensors' weak references have in torch; Python prints what one raises and goes on."""
    body = (
        "import os, signal\n"
        "from edgekit.cli import main as command\n"
        "from edgekit.cli.interrupt import stop_if_interrupted\n"
        "class Dies:\n"
        f"    def __del__(self): os.kill(os.getpid(), signal.{name})\n"
        "class CutShort:\n"
        "    def __del__(self): self.never_set\n"
        "def app(*_, **__):\n"
        "    Dies()\n"
        "    CutShort()\n"
        "    stop_if_interrupted()\n"
        "command.app = app\n"
        "command.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "edgekit: Interrupted; nothing was written.\n"


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_ctrl_c_in_the_middle_leaves_nothing(place: Path, target: str) -> None:
    import signal

    command = [sys.executable, "-c", START, "export", "factories:slow", "--target", target]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for_conversion(process, place)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    *phases, said = err.splitlines()
    assert said == "edgekit: Interrupted; nothing was written."
    assert all(phase.startswith("edgekit export: ") for phase in phases)
    assert leftovers(place) == []
    assert not list(place.glob("*.bundle"))


def test_after_kill_a_new_export_works(edgekit: Command, place: Path) -> None:
    command = [sys.executable, "-c", START, "export", "factories:slow", "--target", "coreml"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for_conversion(process, place)
    process.kill()
    process.communicate()
    # The next process may have the dead one's number, as in a container.
    (found,) = leftovers(place)
    (place / found).rename(place / f".out.partial-{os.getpid()}")
    assert edgekit("export", "factories:make", "--target", "coreml", "-o", "out").code == 0
    assert edgekit("verify", "out").code == 0
    assert leftovers(place) == []


def test_onnx_and_coreml_bundles_compute_the_same(exported: Path) -> None:
    inputs = {"latent": np.random.default_rng(0).standard_normal(LATENT).astype(np.float32)}
    onnx_video = load(exported / "onnx" / FILES["onnx"]).run(inputs)["video"]
    coreml_video = BACKENDS["coreml"].load(exported / "coreml" / FILES["coreml"]).run(inputs)
    np.testing.assert_allclose(onnx_video, coreml_video["video"], atol=5e-3)
