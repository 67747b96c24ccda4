"""Run an ONNX file with onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import onnx
import onnxruntime

from edgekit.backends.onnx.session import SessionOptions, open_session, session_settings
from edgekit.backends.runnable import Array, check_inputs
from edgekit.errors import UsageError, first_line


def load(path: Path, options: SessionOptions | None = None) -> OnnxRunnable:
    """Open the file for running. Raises UsageError if it is missing or no ONNX model."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist; give the .onnx file of an export.")
    try:
        session = open_session(str(path), session_settings(options or SessionOptions()))
    except Exception as error:  # onnxruntime raises its own classes, one per status code
        reason = first_line(error).replace(str(path), path.name)
        raise UsageError(
            f"{path.name} is no ONNX model that onnxruntime runs: {reason}."
        ) from error
    return OnnxRunnable(path, session)


class OnnxRunnable:
    """An open session.

    The CPU provider runs most float16 operators in float32 and drops the roundings between them.
    """

    rounds_to_half = False

    def __init__(self, path: Path, session: onnxruntime.InferenceSession) -> None:
        self.path = path
        self.session = session
        self.reference = f"onnxruntime {onnxruntime.__version__} CPU"
        self.input_shapes = {item.name: tuple(item.shape) for item in session.get_inputs()}
        self.output_names = [item.name for item in session.get_outputs()]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(self.output_names, self.prepared(inputs)(), strict=True))

    def prepared(self, inputs: Mapping[str, Array]) -> Callable[[], list[Array]]:
        """Outputs of these inputs, which are checked here and not once more with each call."""
        check_inputs(inputs, self.input_shapes, self.path.name)
        feeds = {name: inputs[name] for name in self.input_shapes}

        def outputs() -> list[Array]:
            try:
                found: list[Array] = self.session.run(self.output_names, feeds)
            except Exception as error:  # one class per status code: wrong type, index out of range
                raise UsageError(
                    f"{self.path.name} cannot compute with this input: {first_line(error)}."
                ) from error
            return found

        return outputs

    def trace(self, inputs: Mapping[str, Array]) -> Iterator[tuple[str, str, Array]]:
        """Every node's outputs, from a copy of the model that returns them all, not optimised."""
        model = onnx.load(str(self.path))
        producers = {
            name: node.op_type for node in model.graph.node for name in node.output if name
        }
        kept = {value.name for value in model.graph.output}
        for name in producers:
            if name not in kept:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        feeds = {name: inputs[name] for name in self.input_shapes}
        names = list(producers)
        for name, value in zip(names, session.run(names, feeds), strict=True):
            yield name, producers[name], value
