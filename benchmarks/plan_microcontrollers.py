"""Memory plans of microcontroller networks beside published ones: MCUNetV2 (NeurIPS 2021, arXiv
2110.15352) and msf-CNN (NeurIPS 2025, result files of TinyPART/msf-CNN).

    python benchmarks/plan_microcontrollers.py

Everything is counted in int8 elements. The whole network's input is read piece by piece and its
output is written so: neither is counted whole, but tiles count their own piece of the input. Tensors
that wait for a residual add are counted, also where the publications leave them out.
"""

from __future__ import annotations

import time

import numpy as np

import edgekit
from edgekit.plan.memory import MemoryModel, macs_per_element, timeline
from edgekit.plan.network import Network, network_of
from edgekit.plan.path import WHOLE, Found, Stretch, Tiling
from edgekit.plan.region import elements, lengths
from edgekit.plan.search import Stretches
from edgekit.plan.stages import strips
from edgekit.program.capture import capture
from edgekit.report import aligned

MSF_CNN = {
    "mobilenet-v2-0.35-msf": (
        194.4,
        {"F<=1.1": (67.9, 1.10), "F<=1.3": (21.3, 1.30), "F<=1.5": (15.3, 1.38),
         "F free": (7.9, 1.68), "64 kB": (63.7, 1.23), "128 kB": (83.1, 1.02)},
    ),
    "mcunet-vww1": (
        96.0,
        {"F<=1.1": (32.8, 1.04), "F<=1.3": (17.8, 1.30), "F<=1.5": (13.4, 1.35),
         "F free": (12.0, 1.96), "64 kB": (38.6, 1.02), "128 kB": (89.6, 1.00)},
    ),
    "mcunet-in3": (
        309.8,
        {"F<=1.1": (190.1, 1.04), "F<=1.3": (186.0, 1.25), "F<=1.5": (94.2, 1.45),
         "F free": (42.6, 2.69), "64 kB": (62.9, 2.02), "128 kB": (94.2, 1.45)},
    ),
}  # fmt: skip
"""Whole kB, and per setting kB and work as a multiple of the whole network's."""
LIMITS = {"F<=1.1": 0.1, "F<=1.3": 0.3, "F<=1.5": 0.5, "64 kB": 64e3, "128 kB": 128e3}


def network(name: str) -> Network:
    model = edgekit.load(name)
    return network_of(capture(model.module, model.example_inputs).program)


def int8(*, depthwise_in_place: bool) -> MemoryModel:
    return MemoryModel(
        element_bytes=1, depthwise_in_place=depthwise_in_place, adds_in_place=True,
        input_counted=False, output_counted=False, windows_copied=False,
    )  # fmt: skip


def patch_stage(net: Network, parts: int) -> tuple[Stretches, Found]:
    """What MCUNetV2 may do: one patch stage from the input on, then operator by operator."""
    search = Stretches(
        net,
        int8(depthwise_in_place=True),
        streams=False,
        only=Tiling(parts, parts),
        patch_stage=True,
    )
    return search, search.least_memory()


def stage_overheads(net: Network, stage: Stretch) -> tuple[int, float, float]:
    """Side of the input patch in pixels; extra work of the stage if every patch were as large as
    the largest, and as it is: without what lies outside the image.
    """
    found = [stream.found for stream in strips(net, stage)]
    order = found[0].order
    once = sum(int(np.prod(node.meta["val"].shape)) * macs_per_element(node) for node in order)
    unclipped = clipped = 0
    for node in order:
        sizes = [int(elements(tile.computed[node])) for tile in found]
        unclipped += max(sizes) * len(found) * macs_per_element(node)
        clipped += sum(sizes) * macs_per_element(node)
    side = max(int(lengths(tile.read[stage.source])[-1]) for tile in found)
    return side, unclipped / once - 1, clipped / once - 1


def print_patches() -> None:
    net = network("mobilenet-v2")
    _, found = patch_stage(net, 4)
    (stage,) = (stretch for stretch in found.stretches if stretch.tiling != WHOLE)
    side, unclipped, clipped = stage_overheads(net, stage)
    whole = timeline(net, int8(depthwise_in_place=True)).peak_bytes / 1024
    print(
        "MobileNetV2 224x224, int8, depthwise in place; one stage of 4x4 patches, then by operator"
    )
    rows = [("", "published", "edgekit")]
    rows += [
        ("whole, KiB", "1372", f"{whole:.1f}"),
        ("with patches, KiB", "172", f"{found.peak_bytes / 1024:.1f}"),
        ("input patch, pixels", "75", f"{side}"),
        ("extra work of the stage", "42 %", f"{unclipped:.1%}, {clipped:.1%} without the outside"),
        ("extra work overall", "10 %", f"{found.overhead:.1%}"),
        ("stage ends at", "28x28x32", "x".join(map(str, stage.result.meta["val"].shape[1:]))),
    ]
    print(aligned(rows))
    free = Stretches(net, int8(depthwise_in_place=True))
    for share in (0.0, 0.1, 0.3):
        best = free.least_memory(share)
        print(
            f"all that edgekit may do, F<={1 + share:.1f}: {best.peak_bytes / 1024:.1f} KiB, {best.overhead:+.1%}"
        )


def print_fusion(name: str) -> None:
    whole, rows = MSF_CNN[name]
    net = network(name)
    table = [("", "msf-CNN", "edgekit", "depthwise in place")]
    columns = []
    seconds = []
    for in_place in (False, True):
        started = time.perf_counter()
        search = Stretches(net, int8(depthwise_in_place=in_place))
        seconds.append(time.perf_counter() - started)
        column = [f"{search.whole_peak / 1000:.1f} kB"]
        for setting, (_, multiple) in rows.items():
            column.append(_answer(search, setting, multiple))
        columns.append(column)
    table.append(("whole", f"{whole} kB", columns[0][0], columns[1][0]))
    for number, (setting, (kilobytes, multiple)) in enumerate(rows.items(), start=1):
        theirs = f"{kilobytes} kB, F {multiple:.2f}"
        table.append((setting, theirs, columns[0][number], columns[1][number]))
    shape = "x".join(map(str, net.inputs[0].meta["val"].shape[2:]))
    print(f"\n{name} {shape}, int8; searches took {seconds[0]:.1f} and {seconds[1]:.1f} s")
    print(aligned(table))


def _answer(search: Stretches, setting: str, multiple: float) -> str:
    limit = LIMITS.get(setting)
    if limit is None:  # no more work than theirs; and no limit at all
        same, free = search.least_memory(multiple - 1), search.least_memory()
        return f"{_point(same)}; without limit {_point(free)}"
    if limit < 1:
        return _point(search.least_memory(limit))
    found = search.least_work(limit)
    # Of plans with this little work, the one with the least memory.
    return "none" if found is None else _point(search.least_memory(found.overhead))


def _point(found: Found) -> str:
    return f"{found.peak_bytes / 1000:.1f} kB, F {1 + found.overhead:.2f}"


def main() -> None:
    print_patches()
    for name in MSF_CNN:
        print_fusion(name)


if __name__ == "__main__":
    main()
