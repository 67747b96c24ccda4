from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conv_files import write_convolutions

from edgekit.backends.onnx import session
from edgekit.backends.onnx.load import load
from edgekit.backends.onnx.session import NAMED, MemorySettings, SessionOptions, session_settings


@pytest.mark.parametrize("memory", NAMED.values(), ids=NAMED)
def test_memory_settings_do_not_change_what_is_computed(
    tmp_path: Path, memory: MemorySettings
) -> None:
    file = write_convolutions(tmp_path / "net.onnx", side=32)
    picture = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    plain = load(file).run({"picture": picture})["result"]
    opened = load(file, SessionOptions(1, memory))
    for _ in range(3):
        np.testing.assert_allclose(opened.run({"picture": picture})["result"], plain, atol=1e-6)


def test_settings_reach_onnxruntime() -> None:
    settings = session_settings(SessionOptions(3, MemorySettings("none", False, False), "basic"))
    assert settings.intra_op_num_threads == 3
    assert not settings.enable_cpu_mem_arena
    assert not settings.enable_mem_pattern
    assert not settings.enable_mem_reuse
    assert settings.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


def test_the_shared_arena_is_registered_once_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(session, "_registered", False)
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", lambda *_: calls.append(_))
    askers = [
        threading.Thread(target=session_settings, args=(SessionOptions(1, session.SERVING),))
        for _ in range(4)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(calls) == 1


def test_an_arena_that_the_host_program_shares_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("An allocator for this device has already been registered for sharing.")

    monkeypatch.setattr(session, "_registered", False)
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", refuse)
    settings = session_settings(SessionOptions(1, session.SERVING))
    assert settings.get_session_config_entry("session.use_env_allocators") == "1"
