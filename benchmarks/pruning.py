"""Latency and quality of pruned models beside the whole ones, in one run.

    python tests/fetch_assets.py efficientnet_lite0 photographs labelled_photographs
    python benchmarks/pruning.py efficientnet-lite0 --weights efficientnet-lite0-57934424.pth --size 224x224 \\
        --data PHOTOGRAPHS --test LABELLED --keep 0.5 --steps 200
    python benchmarks/pruning.py leyolo-composites --size 320x320 --data PHOTOGRAPHS --test LABELLED
    python benchmarks/pruning.py turbo-vaed-mini --size 128x128 --frames 4

Latencies are medians of onnxruntime runs in turns, one thread, of files as `edgekit export` writes them. Quality
is against the whole network, on pictures (latents) that neither chose channels nor trained. Without --data
turbo-vaed-mini takes the sample of latents beside its recipe: the first half to prune by, the last to measure on.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

import edgekit
from edgekit.backends.onnx.session import SessionOptions, session_settings
from edgekit.cli.output import parse_size
from edgekit.compress.pruning.options import PruneOptions
from edgekit.compress.pruning.pruned import prune_model
from edgekit.compress.pruning.quality import quality
from edgekit.distillation.network_inputs import varied_inputs
from edgekit.folder_inputs import inputs_in
from edgekit.model import Model
from edgekit.profiling.timing import timed_ms
from edgekit.pruning import recovered
from edgekit.recipe import find_recipe

BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--weights")
    parser.add_argument("--size")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--inputs", type=int, default=16)
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--of", default="macs")
    parser.add_argument("--round-to", type=int, default=16)
    parser.add_argument("--importance", default="output")
    parser.add_argument("--ratios", default="importance")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    height, width = parse_size(asked.size)
    whole = edgekit.load(
        asked.model, asked.weights, height=height, width=width, frames=asked.frames
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data, test = asked.data, asked.test
        if data is None:
            data, test = halves_of_sample(asked.model, work / "sample")
        batches = inputs_in(data, whole).batches(asked.inputs, BATCH)
        options = PruneOptions(asked.keep, asked.of, asked.round_to, asked.importance, asked.ratios)
        pruned = prune_model(whole, options, batches, print)
        if asked.steps:
            training = varied_inputs(whole, inputs_in(data, whole).files)
            pruned = recovered(
                pruned, whole, training, asked.steps, batches, run=work / "run", progress=print
            )
        print(pruned.summary())
        tested = inputs_in(test or data, whole).batches(10**6, BATCH)
        found = quality(whole.module, pruned.model.module, [(batch,) for batch in tested])
        print(f"on {'others' if test else 'the same'}: {found.sentence()}")
        print(in_turns(whole, pruned.model, work, asked.rounds))


def halves_of_sample(model: str, folder: Path) -> tuple[Path, Path]:
    """The latents beside the recipe: their first frames to prune by, their last ones to measure on."""
    recipe = find_recipe(model)
    latent = np.load(recipe.path.with_name(f"{recipe.name}.sample.npz"))["latent"]
    halves = folder / "first", folder / "last"
    for place, half in zip(halves, np.array_split(latent, 2, axis=2)):
        place.mkdir(parents=True)
        np.save(place / "latent.npy", half)
    return halves


def in_turns(whole: Model, pruned: Model, work: Path, rounds: int) -> str:
    feeds = whole.example_inputs[0].numpy()
    sessions = []
    for name, model in (("whole", whole), ("pruned", pruned)):
        edgekit.export(model, target="onnx", output=work / name, simplify=False, verify=False)
        file = next((work / name).glob("*.onnx"))
        sessions.append(
            onnxruntime.InferenceSession(
                str(file),
                session_settings(SessionOptions(threads=1)),
                providers=["CPUExecutionProvider"],
            )
        )
    given = sessions[0].get_inputs()[0].name
    times: list[list[float]] = [[], []]
    for turn in range(rounds + 2):
        for session, taken in zip(sessions, times):
            milliseconds = timed_ms(lambda session=session: session.run(None, {given: feeds}))
            if turn > 1:  # the first two warm up
                taken.append(milliseconds)
    before, after = (float(np.median(taken)) for taken in times)
    ratios = np.array(times[0]) / np.array(times[1])
    return (
        f"onnxruntime, one thread, {rounds} turns: {before:.2f} and {after:.2f} ms, {before / after:.2f} times as "
        f"fast (pairs from {ratios.min():.2f} to {ratios.max():.2f})"
    )


if __name__ == "__main__":
    main()
