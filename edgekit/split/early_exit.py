"""A classifier on the features of an early layer: what it is sure of is answered before anything is sent.

The exit is one linear layer over the mean of each channel, so that it costs next to nothing on the
device. An image leaves there if the greatest probability reaches a threshold (SPINN, MobiCom 2020), which
is chosen on pictures that were held out of training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.errors import MissingEnvironmentError, UsageError, first_line
from edgekit.zoo.split.attach import features
from edgekit.zoo.split.cutting import cut
from edgekit.zoo.split.network import SplitHead, SplitNetwork

HELD_OUT = 5
"""Every fifth picture chooses the threshold."""
FEWEST_PICTURES = 2 * HELD_OUT
FEWEST_LEAVING = 5
"""Of those held out: one sure picture that is right proves nothing."""
NEVER = 1.01
"""A threshold that no probability reaches."""
FORMAT = "edgekit-early-exit"


@dataclass(frozen=True)
class Answers:
    classes: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    """Greatest probability, 0 to 1."""


@dataclass(frozen=True)
class ExitOptions:
    steps: int = 300
    rate: float = 1e-2
    decay: float = 1e-2
    within_points: float = 1.0
    """How many points of accuracy those that leave may lose against the whole network."""


class ExitHead(nn.Module):
    """Features N C h w to logits N K."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, features: Tensor) -> Tensor:
        made: Tensor = self.linear(features.mean((2, 3)))
        return made


@dataclass(frozen=True)
class EarlyExit:
    layer: str
    """Behind which it sits."""
    head: ExitHead
    threshold: float

    @torch.inference_mode()
    def answers(self, network: nn.Module, images: Iterable[Tensor]) -> Answers:
        """Of images N 3 H W. Raises UsageError for a network without that layer, or of other features there."""
        front = front_of(network, self.layer).eval()
        images = list(images)
        channels = features(front, images[0], self.layer).shape[1]
        if channels != self.head.linear.in_features:
            raise UsageError(
                f"The exit at '{self.layer}' takes {self.head.linear.in_features} channels, and this network has "
                f"{channels} there: it was trained for another model; train one with `edgekit split exit`."
            )
        shares = torch.cat([self.head(front(image)).softmax(1) for image in images])
        confidence, classes = shares.max(1)
        return Answers(classes.numpy(), confidence.double().numpy())

    def write(self, path: Path) -> None:
        """As safetensors. Raises MissingEnvironmentError."""
        from safetensors.torch import save

        about = {"format": FORMAT, "layer": self.layer, "threshold": repr(self.threshold)}
        try:
            path.write_bytes(save(self.head.state_dict(), about))
        except OSError as error:
            raise MissingEnvironmentError(f"{path} cannot be written: {error.strerror}.") from error

    @classmethod
    def read(cls, path: Path) -> EarlyExit:
        """Raises UsageError for a file that is missing or no exit."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about.get("format") != FORMAT:
                raise UsageError(f"{path} is no early exit; `edgekit split exit` trains one.")
            head = ExitHead(*reversed(tensors["linear.weight"].shape))
            head.load_state_dict(tensors)
            return cls(about["layer"], head.eval(), float(about["threshold"]))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UsageError(
                f"The early exit {path} cannot be read: {first_line(error)}."
            ) from error


@dataclass(frozen=True)
class Trained:
    exit: EarlyExit
    rate: float
    """Share of the held-out pictures that leave."""
    accuracy: float
    """Of those; NaN if none leaves."""
    whole_accuracy: float
    """Of the whole network on all that were held out; 1 where its answers are the labels."""
    held_out: int

    def sentence(self) -> str:
        if not self.rate:
            return (
                f"No threshold lets pictures leave at {self.exit.layer} that are right as often as the whole "
                f"network's on {self.held_out} held-out pictures: the exit will never be taken."
            )
        return (
            f"Of {self.held_out} held-out pictures {self.rate:.0%} leave at {self.exit.layer} with a probability of "
            f"{self.exit.threshold:.3f} or more; {self.accuracy:.1%} of them are right, of all "
            f"{self.whole_accuracy:.1%} by the whole network."
        )


def train_exit(
    network: nn.Module,
    layer: str,
    images: Sequence[Tensor],
    labels: Sequence[int] | None = None,
    options: ExitOptions = ExitOptions(),
) -> Trained:
    """Of a classifier that is left as it is. Without labels, its own answers are right.

    Raises UsageError for a layer that it cannot be cut at, too few pictures, a label that is no class, or a
    network that is no classifier.
    """
    if len(images) < FEWEST_PICTURES:
        raise UsageError(
            f"An exit is trained with {FEWEST_PICTURES} pictures or more, not {len(images)}."
        )
    front = front_of(network, layer).eval()
    features(front, images[0], layer)
    with torch.inference_mode():
        means = torch.cat([front(image).mean((2, 3)) for image in images])
        logits = torch.cat([_scores(network.eval()(image)) for image in images])
    means, logits = means.clone(), logits.clone()
    own = logits.argmax(1)
    truth = own if labels is None else _labels(labels, logits.shape[1])
    held = torch.arange(len(truth)) % HELD_OUT == HELD_OUT - 1
    head = _fitted(means[~held], logits[~held], truth[~held], options)
    whole = float((own[held] == truth[held]).float().mean())
    with torch.inference_mode():
        confidence, classes = head.linear(means[held]).softmax(1).max(1)
    right = classes == truth[held]
    threshold = _threshold(confidence, right, whole - options.within_points / 100)
    leaves = confidence >= threshold
    accuracy = float(right[leaves].float().mean()) if leaves.any() else float("nan")
    made = EarlyExit(layer, head, threshold)
    return Trained(made, float(leaves.float().mean()), accuracy, whole, int(held.sum()))


def front_of(network: nn.Module, layer: str) -> nn.Module:
    """Up to the layer; of a split network, of its head, whose layers are "head.encoder.0" and the like.

    Raises UsageError for a layer that it cannot be cut at, or that is not in the head.
    """
    if isinstance(network, SplitNetwork):
        return front_of_head(network.head, layer)
    return cut(network, layer).front


def front_of_head(head: SplitHead, layer: str) -> nn.Module:
    """The same of a head, whose stem's layers may be named as in the network that it was cut from."""
    inside = layer.removeprefix("head.")
    return cut(head, inside).front if inside != layer else cut(head.stem, layer).front


def _scores(made: object) -> Tensor:
    if not isinstance(made, Tensor) or made.ndim != 2:
        raise UsageError(
            "An early exit belongs to a classifier, which gives scores N K; this network does not."
        )
    return made


def _labels(labels: Sequence[int], classes: int) -> Tensor:
    wrong = [label for label in labels if not 0 <= label < classes]
    if wrong:
        raise UsageError(
            f"The label {wrong[0]} is no class of this network, which has 0 to {classes - 1}; correct the labels "
            f"({len(wrong)} such pictures)."
        )
    return torch.tensor(labels)


def _fitted(means: Tensor, logits: Tensor, truth: Tensor, options: ExitOptions) -> ExitHead:
    """Half of the loss is the whole network's softened answer, which says more than a class."""
    centre, deviation = means.mean(0), means.std(0).clamp_min(1e-6)
    scaled = (means - centre) / deviation
    head = ExitHead(means.shape[1], logits.shape[1])
    nn.init.zeros_(head.linear.weight)
    nn.init.zeros_(head.linear.bias)
    optimiser = torch.optim.AdamW(head.parameters(), options.rate, weight_decay=options.decay)
    soft = logits.softmax(1)
    for _ in range(options.steps):
        made = head.linear(scaled)
        loss = 0.5 * F.cross_entropy(made, truth) + 0.5 * F.cross_entropy(made, soft)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():  # for features as the network gives them
        head.linear.weight.div_(deviation)
        head.linear.bias.sub_(head.linear.weight @ centre)
    return head.eval().requires_grad_(False)


def _threshold(confidence: Tensor, right: Tensor, least: float) -> float:
    """The lowest at which those that leave are right often enough, and are not too few to tell."""
    order = confidence.argsort(descending=True)
    share = right[order].float().cumsum(0) / torch.arange(1, len(order) + 1)
    counts = torch.arange(1, len(order) + 1)
    enough = torch.nonzero((share >= least) & (counts >= FEWEST_LEAVING)).flatten()
    return float(confidence[order[enough[-1]]]) if len(enough) else NEVER
