"""export --split, info, run, verify, split serve, send, plan and exit, on a small classifier."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import Command, leftovers
from PIL import Image
from small_classifier import RECIPE
from tail_server import tail_served

from edgekit.bundle import open_bundle
from edgekit.cli.main import run_command
from edgekit.profiling.report_schema import first_fault
from edgekit.split.bundle import SplitBundle
from edgekit.split.early_exit import EarlyExit, ExitHead

NOWHERE = "127.0.0.1:9"
"""The discard port: nothing listens there."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, a folder of pictures, three bundles cut at features.1, and what is wrong; not to be changed."""
    home = tmp_path_factory.mktemp("split")
    (home / "small.toml").write_text(RECIPE)
    (home / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        blocks = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        picture = Image.fromarray(blocks).resize((60, 40), Image.Resampling.BICUBIC)
        picture.save(home / "pictures" / f"{number}.png")
    shared = ["export", home / "small.toml", "--split", "features.1", "--no-simplify", "-o"]
    for words in (
        [*shared, home / "dynamic", "--target", "onnx"],
        [*shared, home / "coded", "--target", "coreml", "--calibrate", home / "pictures"],
        [*shared, home / "coded-onnx", "--target", "onnx", "--calibrate", home / "pictures"],
    ):
        assert run_command([str(word) for word in words]) == 0
    (home / "labels.json").write_text(json.dumps({f"{number}.png": 5 for number in range(12)}))
    EarlyExit("features.1", ExitHead(3, 5), 0.5).write(home / "narrow.safetensors")
    EarlyExit("features.1", ExitHead(8, 9), 0.5).write(home / "classes.safetensors")
    return home


@contextmanager
def served(bundle: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address, and the process, which is stopped at the end if it still runs."""
    command = [sys.executable, "-m", "edgekit", "split", "serve", str(bundle), "--listen", "127.0.0.1:0"]  # fmt: skip
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"listening on (\S+);", line)
        assert found, line
        yield found[1], process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextmanager
def answered_with(bundle: Path, outputs: dict[str, np.ndarray]) -> Iterator[str]:
    """The address of a server that greets as the bundle's tail, and answers whatever it likes."""
    tail = replace(SplitBundle(open_bundle(bundle)).tail(), run=lambda _: outputs)
    with tail_served(tail) as (_, address):
        yield str(address)


def test_info_run_and_verify_take_a_split_bundle(edgekit: Command, home: Path):
    for name, coding, head in (
        ("dynamic", "dynamic", "head.onnx"),
        ("coded", "calibrated", "head.mlpackage"),
    ):
        told = edgekit("info", home / name)
        assert told.code == 0
        for words in ("cut at features.1", coding, head, "tail.onnx", "logits NC 1x5"):
            assert words in told.out
        fields = edgekit("info", home / name, "--json").json()
        assert fields["split"]["channels"] == 8
        assert fields["bytes"][head] > 0
        assert edgekit("run", home / name, "--json").json()["outputs"]["logits"]["shape"] == [1, 5]
        report = edgekit("verify", home / name, "--json").json()
        assert report["passed"]
        assert [output["name"].partition(":")[0] for output in report["outputs"]] == [
            "head", "golden packet", "tail", "both",
        ]  # fmt: skip
    assert edgekit("verify", home / "dynamic", "--bisect").is_one_sentence()
    assert edgekit("info", home / "pictures").is_one_sentence()
    assert edgekit("info", home / "dynamic", "--size", "8x8").is_one_sentence()


def test_a_picture_goes_to_a_server_and_back_until_ctrl_c(edgekit: Command, home: Path):
    picture = home / "pictures" / "3.png"
    with served(home / "coded", "--json") as (address, process):
        sent = edgekit("split", "send", home / "coded", picture, "--to", address, "--json")
        assert sent.code == 0, sent.err
        found = sent.json()
        assert found["answered_by"] == "server"
        assert found["channels"] == 8
        assert found["link_error"] is None
        assert len(found["found"]) == 5
        assert sum(row["probability"] for row in found["found"]) == pytest.approx(1, abs=1e-3)
        shown = edgekit("split", "send", home / "coded", picture, "--to", address)
        assert re.search(r"^class +probability$", shown.out, re.MULTILINE)
        assert f"answered by {address}" in shown.out
        fewer = edgekit("split", "send", home / "coded", picture, "--to", address, "--keep", 2, "--json")  # fmt: skip
        assert fewer.json()["packet_bytes"] < found["packet_bytes"]
        assert "trained with all its channels" in fewer.err
        other = edgekit("split", "send", home / "dynamic", picture, "--to", address)
        assert other.is_one_sentence()
        assert "tail of another head" in other.err
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert err == ""
        assert json.loads(out) == {
            "connections": 4, "turned_away": 0, "answered": 3, "of_parts": 0, "refused": 0, "unread": 0,
        }  # fmt: skip
    alone = edgekit("split", "send", home / "coded", picture, "--to", address, "--json")
    assert alone.code == 0
    assert alone.json()["answered_by"] == "here"
    assert alone.json()["found"] == found["found"]
    assert "cannot be reached" in alone.err
    assert "ran here instead" in alone.err


def test_without_fallback_a_link_that_fails_is_an_error(edgekit: Command, home: Path):
    failed = edgekit(
        "split", "send", home / "dynamic", home / "pictures" / "0.png", "--to", NOWHERE, "--no-fallback",
    )  # fmt: skip
    assert failed.code == 4
    assert failed.is_one_sentence()


@pytest.mark.parametrize(
    "outputs",
    [
        {"../x": np.zeros((1, 5), np.float32)},
        {"{absolute}": np.zeros((1, 5), np.float32)},
        {"logits": np.zeros((1, 5), np.float32), "\x1b[2J": np.zeros(1, np.float32)},
        {"logits": np.zeros(3, np.float32)},
        {},
    ],
)
def test_a_server_that_answers_something_else_writes_nothing(
    edgekit: Command, home: Path, tmp_path: Path, outputs: dict[str, np.ndarray]
):
    sent = {name.format(absolute=tmp_path / "y"): value for name, value in outputs.items()}
    with answered_with(home / "dynamic", sent) as address:
        words = ("split", "send", home / "dynamic", home / "pictures" / "0.png", "--to", address)
        refused = edgekit(*words, "-o", tmp_path / "out", "--no-fallback")
        assert refused.code == 4
        assert refused.is_one_sentence()
        assert "\x1b" not in refused.err
        assert list(tmp_path.iterdir()) == []
        instead = edgekit(*words, "-o", tmp_path / "out", "--json")
    assert instead.code == 0
    assert instead.json()["answered_by"] == "here"
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "logits.npy"]


def test_a_token_of_a_file_opens_the_server(edgekit: Command, home: Path, tmp_path: Path):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("sesame\n")
    wrong.write_text("open\n")
    picture = home / "pictures" / "0.png"
    with served(home / "dynamic", "--token-file", str(right)) as (address, _):
        send = ("split", "send", home / "dynamic", picture, "--to", address)
        assert edgekit(*send, "--token-file", right).code == 0
        for refused in (edgekit(*send), edgekit(*send, "--token-file", wrong)):
            assert refused.code == 2
            assert refused.is_one_sentence()


def test_a_profile_follows_a_picture_to_the_server_and_back(
    edgekit: Command, home: Path, tmp_path: Path
):
    picture, token = home / "pictures" / "0.png", tmp_path / "token"
    token.write_text("sesame")
    words = ("profile", home / "coded-onnx", "--threads", 1, "--seconds", 0.1, "--image", picture, "--to")  # fmt: skip
    with served(home / "coded-onnx", "--token-file", str(token)) as (address, _):
        done = edgekit(*words, address, "--token-file", token, "--keep", 3, "--html", tmp_path / "p.html", "--json")  # fmt: skip
        assert done.code == 0, done.err
        assert "trained with all its channels" in done.err
        found = done.json()
        assert first_fault(found) == ""
        assert found["complete"]
        assert found["golden"]["passed"]
        assert found["split"] == {"layer": "features.1"}
        sent = found["end_to_end"]["sent"]
        assert sent["server"] == address
        assert sent["packet_bytes"] > 3 * 8 * 10
        for passage in found["end_to_end"]["passages"]:
            steps = [row["step"] for row in passage["steps"]]
            assert steps[steps.index("head") :] == [
                "head", "encode packet", "transfer", "wait at the server", "decode packet", "tail", "top 5",
            ]  # fmt: skip
        assert "<td>transfer</td>" in (tmp_path / "p.html").read_text()
        refused = edgekit(*words, address)
        assert refused.code == 2
        assert refused.is_one_sentence()
        other = edgekit(*words[:1], home / "dynamic", *words[2:], address, "--token-file", token)
        assert other.code == 1
        assert "tail of another head" in other.err
    gone = edgekit(*words, NOWHERE)
    assert gone.code == 4
    assert gone.is_one_sentence()


def test_a_head_of_core_ml_is_not_timed_in_the_interpreter(edgekit: Command, home: Path):
    done = edgekit("profile", home / "coded")
    assert done.code == 2
    assert "reference interpreter" in done.err


def test_the_input_itself_can_be_sent_and_results_are_written(
    edgekit: Command, home: Path, tmp_path: Path
):
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 16, 20), np.float32))
    done = edgekit(
        "split", "send", home / "dynamic", tmp_path / "x.npy", "--to", NOWHERE, "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 0
    assert np.load(tmp_path / "out" / "logits.npy").shape == (1, 5)
    assert "answered here" in done.out


@pytest.mark.parametrize(
    "words",
    [
        ["split", "serve", "missing"],
        ["split", "serve", "{home}/dynamic", "--listen", "nowhere"],
        ["split", "serve", "{home}/dynamic", "--certificate", "cert.pem"],
        ["split", "serve", "{home}/dynamic", "--certificate", "cert.pem", "--key", "key.pem"],
        ["split", "serve", "{home}/dynamic", "--token-file", "missing"],
        ["split", "send", "{home}/dynamic", "{home}/pictures/0.png", "--keep", "9"],
        ["split", "send", "{home}/dynamic", "{home}/pictures/0.png", "--ca", "ca.pem"],
        ["split", "send", "{home}/dynamic", "{home}/pictures/0.png", "--tls", "--ca", "missing.pem"],
        ["split", "send", "{home}/dynamic", "missing.png"],
        ["split", "send", "{home}/pictures", "{home}/pictures/0.png"],
        ["export", "{home}/small.toml", "--target", "onnx", "--split", "features.9"],
        ["export", "{home}/small.toml", "--target", "onnx", "--split", "features.1.conv"],
        ["export", "{home}/small.toml", "--target", "onnx", "--split", "features.1", "--tiles", "2x2"],
        ["export", "{home}/small.toml", "--target", "onnx", "--calibrate", "{home}/pictures"],
        ["export", "{home}/small.toml", "--target", "onnx", "--split", "features.1", "--calibrate", "{home}/dynamic"],
        ["split", "plan", "{home}/small.toml", "--uplink", "fast"],
        ["split", "plan", "{home}/small.toml", "--device", "missing.json"],
        ["split", "plan", "{home}/small.toml", "--labels", "labels.json"],
        ["split", "plan", "{home}/small.toml", "--exit", "missing.safetensors"],
        ["split", "plan", "{home}/small.toml", "--pictures", "{home}/dynamic"],
        ["split", "plan", "{home}/small.toml", "--head", "{home}/coded", "--runs", "1"],
        ["split", "plan", "{home}/small.toml", "--pictures", "{home}/pictures", "--exit", "{home}/narrow.safetensors", "--runs", "1"],
        ["split", "plan", "{home}/small.toml", "--pictures", "{home}/pictures", "--exit", "{home}/classes.safetensors", "--runs", "1"],
        ["split", "exit", "{home}/small.toml", "--pictures", "{home}/pictures", "--layer", "classifier", "-o", "e"],
        ["split", "exit", "{home}/small.toml", "--pictures", "{home}/pictures", "--layer", "features.1", "--labels", "{home}/labels.json", "-o", "e"],
        ["export", "{home}/small.toml", "--target", "onnx", "--split", "features.1", "--safety"],
    ],
)  # fmt: skip
def test_what_cannot_be_done_gets_one_sentence_and_leaves_nothing(
    edgekit: Command, home: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    done = edgekit(*(word.format(home=home) for word in words))
    assert done.code in (2, 4)
    assert done.is_one_sentence(), done.err
    assert list(tmp_path.iterdir()) == []
    assert leftovers(home) == []


def test_a_plan_lists_every_way_with_its_parts_and_says_what_pays(
    edgekit: Command, home: Path, tmp_path: Path
):
    early = tmp_path / "exit.safetensors"
    trained = edgekit(
        "split", "exit", home / "small.toml", "--layer", "features.1", "--pictures", home / "pictures",
        "-o", early, "--json",
    ).json()  # fmt: skip
    assert 0 <= trained["rate"] <= 1
    assert trained["whole_accuracy"] == 1
    profile = tmp_path / "phone.json"
    power = {"compute": 3, "send": 2, "idle": 0.5}
    profile.write_text(
        json.dumps(
            {"format": "edgekit-latency-profile", "version": 1, "device": "slow", "slower": 5, "power_w": power}
        )
    )  # fmt: skip
    words = [
        "split", "plan", home / "small.toml", "--uplink", "100kbit/s", "--rtt", "30ms", "--device", profile,
        "--pictures", home / "pictures", "--head", home / "coded-onnx", "--exit", early, "--runs", "3",
    ]  # fmt: skip
    found = edgekit(*words, "--json", "--save-profile", tmp_path / "here.json").json()
    ways = {way["name"]: way for way in found["candidates"]}
    assert {
        "local",
        "JPEG 30",
        "JPEG 90",
        "WebP 60",
        "coded-onnx keep 8",
        "cut at features.0",
    } <= set(ways)
    assert "exit at features.1, else local" in ways
    cut, local, picture = ways["cut at features.0"], ways["local"], ways["JPEG 30"]
    assert local["bytes_mean"] == 0
    assert local["accuracy"] == 1
    assert 0 < cut["head_ms"] < local["head_ms"]
    assert cut["upload_ms"] == pytest.approx(8 * cut["bytes_mean"] / 100, rel=1e-3)
    parts = ("before_ms", "head_ms", "code_ms", "upload_ms", "rtt_ms", "decode_ms", "tail_ms", "queue_ms")  # fmt: skip
    for way in (cut, local, picture):
        assert way["total_ms"] == pytest.approx(sum(way[part] for part in parts), abs=1e-2)
        assert way["energy_mj"] > 0
    assert picture["bytes_p95"] >= picture["bytes_mean"] > 100
    assert any(way["pareto"] for way in ways.values())
    assert found["fastest"][0]["name"].endswith("local")  # where nothing can be sent
    # A network of a microsecond is not worth a round trip.
    assert "does not pay" in found["verdict"]
    own = tmp_path / "here.json"
    words[words.index(profile)] = own
    told = edgekit(*words)
    assert told.code == 0
    for text in ("way", "total ms", "Pareto", "fastest", "Splitting does not pay", "right by agreement"):  # fmt: skip
        assert text in told.out


def test_what_an_exit_is_sure_of_is_answered_without_a_server(
    edgekit: Command, home: Path, tmp_path: Path
):
    EarlyExit("features.1", ExitHead(8, 5), 0.0).write(tmp_path / "always.safetensors")
    words = [
        "export",
        home / "small.toml",
        "--target",
        "onnx",
        "--split",
        "features.2",
        "--no-simplify",
    ]
    done = edgekit(*words, "--exit", tmp_path / "always.safetensors", "-o", tmp_path / "b")
    assert done.code == 0, done.err
    assert "head: exit" in done.out
    assert "at features.1, from a probability of 0.000 on" in edgekit("info", tmp_path / "b").out
    sent = edgekit(
        "split", "send", tmp_path / "b", home / "pictures" / "1.png", "--to", NOWHERE, "--no-fallback",
        "--json",
    )  # fmt: skip
    assert sent.code == 0, sent.err
    found = sent.json()
    assert (found["answered_by"], found["packet_bytes"], found["channels"]) == ("exit", 0, 0)
    assert len(found["found"]) == 5
