"""Knowledge distillation: the parts that `edgekit.distill` is called with."""

from edgekit.distillation.adversary import Adversary
from edgekit.distillation.clips_on_demand import Augmentation, VideoClips
from edgekit.distillation.hardware import Hardware
from edgekit.distillation.losses import Loss, Match, SoftLabels
from edgekit.distillation.optimisers import AdamW, MuonAndAdamW, Sgd
from edgekit.distillation.pictures import CocoDetection, Cut, Pictures
from edgekit.distillation.schedules import Constant, Cosine, Linear, MultiStep
from edgekit.distillation.stage import Patience, Stage, Validation
from edgekit.distillation.taps import Outputs, Tapped

__all__ = [
    "AdamW",
    "Adversary",
    "Augmentation",
    "CocoDetection",
    "Constant",
    "Cosine",
    "Cut",
    "Hardware",
    "Linear",
    "Loss",
    "Match",
    "MultiStep",
    "MuonAndAdamW",
    "Outputs",
    "Patience",
    "Pictures",
    "Sgd",
    "SoftLabels",
    "Stage",
    "Tapped",
    "Validation",
    "VideoClips",
]
