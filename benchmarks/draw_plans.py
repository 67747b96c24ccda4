"""Draw the pictures of docs/plans.md with the commands of that page that make them.

    python benchmarks/draw_plans.py

Each of its commands with `--picture FILE.svg` is run, and the file goes to docs/pictures.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

from edgekit.cli.main import run_command

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    argparse.ArgumentParser(description=str(__doc__).splitlines()[0]).parse_args()
    page = (DOCS / "plans.md").read_text("utf-8")
    for line in re.findall(r"^\$ edgekit (plan .+ --picture \S+\.svg)$", page, re.MULTILINE):
        words = shlex.split(line)
        words[-1] = str(DOCS / "pictures" / words[-1])
        if run_command(words):
            raise SystemExit(f"edgekit {line} did not work")


if __name__ == "__main__":
    main()
