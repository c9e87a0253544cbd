"""Training of several small models of one architecture together, in one process.

A step of a small model is mostly overhead: starting an operation takes longer than computing it.
Models that are computed as one share it: a convolution of M models is one convolution in M groups,
a linear layer one product of M matrices, and a step of Adam is element by element anyway. On a CPU,
that pays for steps of a few milliseconds; larger ones become no faster. On a GPU it pays more, and
for larger models (docs/benchmarks.md).

Shape suffixes: M models, B batch, C channels, H W pixels, F features, K classes.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixunlearn.acceleration import Steps
from mixunlearn.errors import DivergedError
from mixunlearn.models.chain import Chain, centred
from mixunlearn.optimization import Adam, take_step
from mixunlearn.training import Training

Weights = Mapping[nn.Parameter, Tensor]  # of the first model -> those of all, (M, ...)
# Layers that compute each image on its own, keep nothing but weights, and draw nothing.
OF_MAPS = {nn.Conv2d, nn.MaxPool2d, nn.ReLU}
OF_FEATURES = {nn.Linear, nn.ReLU}
MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's names
MOST = 64  # models together; more were not measured
# Outputs of all layers in one step of one model. The CNN of MNIST has 1.43 million with batches of
# 32, that of digits 0.08 million; larger steps were not measured.
LARGEST = 1_500_000


def train_epoch(trainings: Sequence[Training]) -> list[float]:
    """Make the next epoch of each training; return their mean cross entropies in nats, in order.

    Afterwards each training is as if its own `epoch` had run, up to the rounding of float32, and
    can go on alone or with others. Trainings with the same architecture, recipe, device, number of
    samples and epochs done are computed together if `trains_together` and the recipe
    (`Recipe.plain`) allow it: with as many samples, they take the same steps on batches of the same
    size, whichever samples these are. The others are trained one after another.

    A loss that is not finite means that this training diverged. It does not affect the others.

    Args:
        trainings: each once.
    """
    groups = defaultdict[Hashable, list[int]](list)
    for index, training in enumerate(trainings):
        groups[_kind(training) or index].append(index)
    losses = [math.nan] * len(trainings)
    for indices in groups.values():
        found = _train([trainings[index] for index in indices])
        for index, loss in zip(indices, found, strict=True):
            losses[index] = loss
    return losses


def trains_together(model: nn.Module) -> bool:
    """Return whether several models like this one can be computed as one.

    They can if they are chains of convolutions, linear layers, ReLU, max-pooling and flattening,
    without frozen weights, that take images in their own size. Batch norm updates statistics and
    dropout draws from PyTorch's global generator while they are trained; what the layers of others
    do is unknown.
    """
    if type(model) is not Chain or model.frozen or model.size is not None:
        return False
    layers = _layers(model)
    kinds = [type(layer) for layer in layers]
    if kinds.count(nn.Flatten) != 1 or not all(map(_is_usual, layers)):
        return False
    flat = kinds.index(nn.Flatten)
    return {*kinds[:flat]} <= OF_MAPS and {*kinds[flat + 1 :]} <= OF_FEATURES


def most_together(
    model: nn.Module, image_shape: Sequence[int], batch: int, device: torch.device
) -> int:
    """Return how many models like this one are trained together at most; 1: each alone.

    They are trained together where that was measured to be faster: on a CUDA device, if
    `trains_together` and if a step is not larger than the measured ones (`LARGEST`). On an H200, 8,
    16 and 64 models together took 0.25, 0.15 and 0.09 of the time one by one (the CNN of digits),
    and 0.35, 0.23 and 0.16 (that of MNIST): `python -m benchmarks.population`.

    Never on a CPU, although small models would be faster there too: together, the last digits of a
    model depend on how many others are trained with it, so on which ones are stored already. On a
    CPU, equal settings give equal numbers.

    Args:
        model: on the CPU.
        image_shape: (channels, height, width).
        batch: images in a step.
        device: where they will be trained.
    """
    if device.type != "cuda" or not trains_together(model):
        return 1
    return MOST if batch * _outputs(model, image_shape) <= LARGEST else 1


@torch.no_grad()
def _outputs(model: nn.Module, image_shape: Sequence[int]) -> int:
    """Return the number of outputs of all layers for one image."""
    x, count = torch.zeros(1, *image_shape), 0
    for layer in _layers(model):
        x = layer(x)
        count += x.numel()
    return count


def _layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a chain in the order of its calls; one that is called twice, twice."""
    parts = [part for _, part in model.named_modules(remove_duplicate=False)]
    # Exactly these types: what a subclass does is unknown, so it counts as an unknown layer.
    return [part for part in parts[1:] if type(part) not in {nn.Sequential, nn.ModuleDict}]


def _is_usual(layer: nn.Module) -> bool:
    """Return whether the functions below know all options of a layer of a known type."""
    match layer:
        case nn.Conv2d():
            return layer.groups == 1 and layer.padding_mode == "zeros"
        case nn.Flatten():
            return (layer.start_dim, layer.end_dim) == (1, -1)
    return True


def _kind(training: Training) -> Hashable:
    """Return what trainings that are computed together have in common, or `None`."""
    if type(training) is not Training or not training.recipe.plain:
        return None
    if not trains_together(training.model):
        return None
    # The text of a model of known layers says all about it except for its weights.
    samples, text = training.samples.images_NCHW, repr(training.model)
    done = training.epochs_done
    return (text, training.recipe, training.precision, done, samples.shape, samples.device)


def _train(group: Sequence[Training]) -> list[float]:
    if len(group) > 1:
        return _Stack(group).epoch()
    try:
        return [group[0].epoch()["loss"]]
    except DivergedError:
        return [math.nan]


class _Stack:
    """Trainings of one kind whose weights are stacked for an epoch, with Adam's state."""

    def __init__(self, group: Sequence[Training]) -> None:
        self.group = group
        self.orders = [training.start_epoch() for training in group]
        self.parameters = [[*training.model.parameters()] for training in group]
        self.weights = {
            own[0]: torch.stack([weight.detach() for weight in own]).requires_grad_()
            for own in zip(*self.parameters, strict=True)
        }
        first = group[0].optimizer.param_groups[0]
        self.optimizer = Adam(
            self.weights.values(), lr=first["lr"], weight_decay=first["weight_decay"], fused=True
        )
        for index, stacked in enumerate(self.weights.values()):
            if group[0].epochs_done:
                self.optimizer.state[stacked] = self.moments(index)
        parts = {"weights": nn.ParameterList(self.weights.values()), "optimizer": self.optimizer}
        self.steps = Steps(
            f"training of {len(group)} models",
            lambda: parts,
            group[0].rng,
            group[0].device,
            wanted=group[0].capture,
        )

    def moments(self, index: int) -> dict[str, Tensor]:
        """Return Adam's state of a weight in all models."""
        states = [
            training.optimizer.state[own[index]]
            for training, own in zip(self.group, self.parameters, strict=True)
        ]
        moments = {name: torch.stack([state[name] for state in states]) for name in MOMENTS}
        return {"step": states[0]["step"].clone(), **moments}

    def epoch(self) -> list[float]:
        """Make one epoch of all; see `train_epoch`."""
        with self.group[0].precision.forward(self.group[0].device):
            found = [
                self.steps.take(self.step, *batches) for batches in zip(*self.orders, strict=True)
            ]
        self.unstack()
        for training in self.group:
            training.epochs_done += 1
        losses = [torch.stack([*scalars.values()]) for scalars in found]
        means: list[float] = torch.stack(losses).mean(dim=0).tolist()
        return means

    def step(self, *batches: Tensor) -> dict[str, Tensor]:
        """Take one step of each; return their losses in nats, detached, by their numbers."""
        pairs = [*zip(self.group, batches, strict=True)]
        images_MBCHW = torch.stack([each.samples.batch(indices_B) for each, indices_B in pairs])
        labels_MB = torch.stack([each.samples.labels(indices_B) for each, indices_B in pairs])
        logits_MBK = _logits(self.group[0].model, self.weights, images_MBCHW)
        losses_MB = F.cross_entropy(logits_MBK.mT, labels_MB, reduction="none")
        # The sum, because each mean depends on the weights of its own model only.
        losses_M = losses_MB.mean(dim=1)
        take_step(losses_M.sum(), self.optimizer, precision=self.group[0].precision)
        return {str(number): loss for number, loss in enumerate(losses_M.detach().unbind())}

    @torch.no_grad()
    def unstack(self) -> None:
        """Give each training its weights and its state of Adam."""
        for place, (training, own) in enumerate(zip(self.group, self.parameters, strict=True)):
            for weight, stacked in zip(own, self.weights.values(), strict=True):
                weight.copy_(stacked[place])
                state = self.optimizer.state[stacked]
                training.optimizer.state[weight] = {"step": state["step"].clone()} | {
                    # In the weight's own layout in memory, on which the fused kernel relies.
                    name: torch.empty_like(weight).copy_(state[name][place])
                    for name in MOMENTS
                }


def _logits(model: nn.Module, weights: Weights, images_MBCHW: Tensor) -> Tensor:
    """Return the logits of M models, each on its own batch, shape (M, B, K)."""
    x = centred(images_MBCHW).transpose(0, 1).flatten(1, 2)
    # Next to one another in memory, convolutions in groups are up to 1.4 times faster.
    x = x.contiguous(memory_format=torch.channels_last)
    for layer in _layers(model):
        x = LAYERS[type(layer)](layer, weights, x, len(images_MBCHW))
    return x


def _convolved(layer: Any, weights: Weights, x: Tensor, models: int) -> Tensor:  # noqa: ANN401
    """Return feature maps (B, M·C, H, W) of such maps."""
    bias = None if layer.bias is None else weights[layer.bias].flatten()
    kernels = weights[layer.weight].flatten(0, 1)
    return F.conv2d(x, kernels, bias, layer.stride, layer.padding, layer.dilation, models)


def _flattened(layer: nn.Module, weights: Weights, x: Tensor, models: int) -> Tensor:
    """Return features (M, B, F) of feature maps (B, M·C, H, W)."""
    return x.reshape(len(x), models, -1).transpose(0, 1)


def _multiplied(layer: Any, weights: Weights, x: Tensor, models: int) -> Tensor:  # noqa: ANN401
    """Return features (M, B, F) of features."""
    product = x @ weights[layer.weight].mT
    return product if layer.bias is None else product + weights[layer.bias][:, None]


def _called(layer: nn.Module, weights: Weights, x: Tensor, models: int) -> Tensor:
    """Return the output of a layer without weights that treats all channels alike."""
    output: Tensor = layer(x)
    return output


LAYERS: Mapping[type[nn.Module], Callable[[Any, Weights, Tensor, int], Tensor]] = {
    nn.Conv2d: _convolved,
    nn.Flatten: _flattened,
    nn.Linear: _multiplied,
    nn.MaxPool2d: _called,
    nn.ReLU: _called,
}
