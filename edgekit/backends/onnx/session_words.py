"""onnxruntime's own words for settings that files ask for, and where files say so."""

from __future__ import annotations

SESSION_NOTE = "edgekit.session"
"""In the metadata of ONNX files of plans and of quantised models: settings of onnxruntime that they need."""
EXACT_SUMS = {"session.x64quantprecision": "1"}
"""On x86 without VNNI, onnxruntime 1.32 adds two products of 8-bit codes in 16 bits, which overflow, unless it
is told not to: EfficientNet-Lite0 is then 15 to 24 dB from what its file means. It takes other kernels, slower by
a third. Weights of 7 bits cannot overflow and need none of this; elsewhere it changes nothing."""
