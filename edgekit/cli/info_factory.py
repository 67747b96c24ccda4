"""`edgekit info` of a module of the user's own."""

from __future__ import annotations

from math import prod

from edgekit.cli.output import print_json, progress
from edgekit.report import aligned


def print_factory(reference: str, *, json: bool) -> None:
    """What the module of package.module:factory takes, gives and costs, as it is captured."""
    from edgekit.model import model_of_factory
    from edgekit.plan.maps.index_map import shape
    from edgekit.plan.memory import macs_per_element
    from edgekit.prepared import captured_model

    with progress("info"):
        model = model_of_factory(reference)
        program = captured_model(model).program
    parameters = sum(parameter.numel() for parameter in model.module.parameters())
    calls = program.exported.graph.nodes
    macs = sum(each * prod(shape(node)) for node in calls if (each := macs_per_element(node)))
    if json:
        print_json(
            {
                "name": model.name,
                "parameters": parameters,
                "macs": macs,
                "inputs": [spec.to_json() for spec in program.inputs],
                "outputs": [spec.to_json() for spec in program.outputs],
                "weights": model.weights,
            }
        )
        return
    rows = [
        ("model", reference),
        ("weights", model.weights),
        ("parameters", f"{parameters:,}"),
        ("cost", f"{macs / 1e6:,.2f} million MACs per call"),
    ]
    for kind, specs in (("input", program.inputs), ("output", program.outputs)):
        rows += [(kind, f"{s.name} {'x'.join(map(str, s.shape))} {s.dtype}") for s in specs]
    print(aligned(rows))
