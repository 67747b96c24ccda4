from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from edgekit.distillation.curves import COLOURS, _starts, _thinned, _ticks, draw_curves


def record(stage: str, step: int, **more: object) -> dict[str, object]:
    return {
        "stage": stage,
        "step": step,
        "losses": {"l1": 1 / step, "gan": -0.5},
        "frames_per_second": 9.0,
        **more,
    }


def test_stages_follow_one_another_on_the_axis() -> None:
    records = [record("a", 20), record("a", 40), record("b", 20), record("c", 5)]
    assert _starts(records) == {"a": 0, "b": 40, "c": 60}


def test_a_long_line_is_thinned_to_means_and_keeps_its_end() -> None:
    points = [(float(n), float(n % 2)) for n in range(1000)]
    thin = _thinned(points)
    assert len(thin) <= 400
    assert thin[-1][0] == 999
    assert abs(np.mean([y for _, y in thin]) - 0.5) < 0.01


def test_ticks_are_round_and_within() -> None:
    for low, high in ((0, 7), (-2.3, 0.4), (1e-4, 3e-4), (0, 16900)):
        ticks = _ticks(low, high)
        assert 3 <= len(ticks) <= 8
        assert low <= ticks[0]
        assert ticks[-1] <= high + 1e-9


def test_a_picture_shows_each_loss_in_its_colour(tmp_path: Path) -> None:
    records = [record("a", n) for n in range(1, 30)] + [
        record("b", n, losses={"l1": 2 / n, "soft": 0.3}) for n in range(1, 30)
    ]
    draw_curves(records, tmp_path / "curves.png")
    pixels = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    above = 2 * 60  # the legend; values of "gan" are negative, and the axis is logarithmic
    for colour, is_drawn in zip(COLOURS, (True, False, True), strict=False):
        rgb = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8).astype(int)
        seen = (abs(pixels.astype(int) - rgb) < 16).all(-1)  # lines are smoothed
        assert seen[:above].any()
        assert seen[above:, :1500].any() == is_drawn
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_one_record_and_none_are_no_error(tmp_path: Path) -> None:
    draw_curves([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    draw_curves([record("a", 1)], tmp_path / "one.png")
    draw_curves(
        [{"stage": "a", "step": 1, "validation": {"x": float("nan")}}], tmp_path / "nan.png"
    )
    assert (tmp_path / "nan.png").exists()
