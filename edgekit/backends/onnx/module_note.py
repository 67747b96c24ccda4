"""Where a node of an ONNX file says which submodule it computes."""

MODULE_NOTE = "edgekit.module"
"""In the node's metadata: the submodule's path, as "features.3.conv.1"."""
