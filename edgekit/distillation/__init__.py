"""Knowledge distillation: the parts that `edgekit.distill` is called with."""

from edgekit.distillation.adversary import Adversary
from edgekit.distillation.hardware import Hardware
from edgekit.distillation.losses import Loss, Match, SoftLabels
from edgekit.distillation.optimisers import AdamW, MuonAndAdamW, Sgd
from edgekit.distillation.schedules import Constant, Cosine, Linear, MultiStep
from edgekit.distillation.stage import Patience, Stage, Validation
from edgekit.distillation.taps import Outputs, Tapped

__all__ = [
    "AdamW",
    "Adversary",
    "Constant",
    "Cosine",
    "Hardware",
    "Linear",
    "Loss",
    "Match",
    "MultiStep",
    "MuonAndAdamW",
    "Outputs",
    "Patience",
    "Sgd",
    "SoftLabels",
    "Stage",
    "Tapped",
    "Validation",
]
