"""Weights between those of two trainings of one network, to have some of what each is good at.

    python benchmarks/average_weights.py first.safetensors second.safetensors --share 0.75 -o between.safetensors

A fine-tuned network forgets; between it and what it began with there are points that keep the old and have most
of the new (arXiv 2109.01903). The mean of two fine-tunings from one point has less of what either lost (arXiv 2203.05482).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    first, second = load_file(asked.first), load_file(asked.second)
    if {name: value.shape for name, value in first.items()} != {
        name: value.shape for name, value in second.items()
    }:
        parser.error("the files hold weights of two networks")
    between = {
        name: torch.lerp(value.float(), second[name].float(), asked.share).to(value.dtype)
        for name, value in first.items()
    }
    save_file(between, asked.output)
    print(f"wrote {asked.output}")


if __name__ == "__main__":
    main()
