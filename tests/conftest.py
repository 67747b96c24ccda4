"""For all tests: tqdm reads this once, when the first library imports it."""

from __future__ import annotations

import os

os.environ.setdefault("TQDM_DISABLE", "1")
