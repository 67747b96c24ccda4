"""How long the search for a memory plan takes, and what it finds.

    python benchmarks/plan_search.py

For each network: seconds of the search by itself (the network is captured before), for plans of files
(fp32) and of microcontrollers (int8, where kept lines stay where they are), and the plans with the
least memory at several shares of extra work. Timings mean something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import time

import edgekit
from edgekit.plan.choose import in_units
from edgekit.plan.memory import MemoryModel
from edgekit.plan.network import Network, network_of
from edgekit.plan.path import Found
from edgekit.plan.search import Stretches
from edgekit.plan.stages import runs_within
from edgekit.program.capture import capture
from edgekit.report import aligned

NETWORKS = {
    "turbo-vaed-ltx": {"height": 736, "width": 1280, "frames": 17},
    "turbo-vaed-mini": {},
    "mobilenet-v2": {},
    "mcunet-in3": {},
    "unet-c16": {},
}
MODELS = {
    "tiles in files": (MemoryModel(input_counted=False), False),
    "tiles and streams in files": (MemoryModel(input_counted=False), True),
    "int8, in place": (MemoryModel(1, True, True, False, False, False), True),
}
SHARES = (0.0, 0.05, 0.1, 0.3, float("inf"))


def network(name: str) -> Network:
    model = edgekit.load(name, **NETWORKS[name])
    return network_of(capture(model.module, model.example_inputs).program)


def stretches(net: Network, found: Found) -> str:
    return ", ".join(
        "at once" if stretch.tiling.count == 1 else str(stretch.tiling)
        for stretch in runs_within(net, found)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    for name in parser.parse_args().networks:
        net = network(name)
        for what, (model, streams) in MODELS.items():
            started = time.perf_counter()
            search = Stretches(net, model, streams=streams)
            built = time.perf_counter() - started
            points = [search.least_memory(share) for share in SHARES]
            chosen = time.perf_counter() - started - built
            print(
                f"\n{name}, {what}: {len(net.nodes)} operators, {len(search.cuts)} cuts, "
                f"{len(search.edges)} edges in {built:.1f} s, {len(SHARES)} plans in {chosen:.1f} s; "
                f"whole {in_units(search.whole_peak)}"
            )
            table = [("at most", "memory", "extra work", "stretches")]
            table += [
                (
                    f"{share:.0%}",
                    in_units(found.peak_bytes),
                    f"{found.overhead:.1%}",
                    stretches(net, found),
                )
                for share, found in zip(SHARES, points, strict=True)
            ]
            print(aligned(table), flush=True)


if __name__ == "__main__":
    main()
