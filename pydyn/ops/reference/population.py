"""Populations of tiny networks in plain torch: all members of a population in each operation.

See `csrc/population.h` for the mathematics. Convolutions are products of matrices, one for each member, with the nine pixels
around each pixel as columns: grouped convolutions are slower, by far so on a CPU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, max_pool2d, unfold

from pydyn.models.tiny import TinyCNN
from pydyn.ops.reference.checks import check_device

OPTIMISERS = ("sgd", "rmsprop", "adam")
EPSILON = 1e-7
# Of probabilities 1 - 1e-7 and 1e-7, in float32.
LEAST_LOSS, MOST_LOSS = 2.0**-23, -math.log(1e-7)
# Images times members evaluated at once.
EVALUATED_AT_ONCE = 8192


def normalise(pixels: Tensor, mean: float, std: float) -> Tensor:
    """(pixel / 255 - mean) / std in float32, as the kernels compute it: offset and scale are each rounded once."""
    offset, scale = np.float32(255 * mean), np.float32(1 / (255 * std))
    return (pixels.float() - float(offset)) * float(scale)


def population_epoch(
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    parameters: Tensor,
    moments: Tensor,
    learning_rates: Tensor,
    optimisers: Tensor,
    filters: Sequence[int],
    n_classes: int,
    output_relu: bool,
    mean: float,
    std: float,
    clipped: bool,
    step: int,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """Train every member for an epoch, in place: sums of the losses (K,) float64, counts of correct images (K,) int64."""
    op = "population_epoch"
    network = _prepare(op, images, parameters, filters, n_classes, output_relu, mean, std)
    _check_labels(op, images, labels, n_classes)
    n_members = len(parameters)
    _check(op, images, "order", order, torch.int64, (n_members, *order.shape[1:]))
    _check(op, images, "moments", moments, torch.float32, (n_members, 2, network.architecture.n_parameters))
    _check(op, images, "learning_rates", learning_rates, torch.float32, (n_members,))
    _check(op, images, "optimisers", optimisers, torch.int64, (n_members,))
    if step < 0:
        raise ValueError(f"{op}: step = {step} must be at least 0")
    if batch_size < 1:
        raise ValueError(f"{op}: batch_size = {batch_size} must be at least 1")
    _check_range(op, "order", order, len(images))
    _check_range(op, "optimisers", optimisers, len(OPTIMISERS))

    loss = torch.zeros(n_members, dtype=torch.float64, device=images.device)
    correct = torch.zeros(n_members, dtype=torch.int64, device=images.device)
    for batch in order.split(batch_size, dim=1):
        step += 1
        with torch.enable_grad():
            leaf = parameters.detach().requires_grad_()
            outputs = network.outputs(network.normalise(images[batch]), leaf)
            target = labels[batch]
            losses = cross_entropy(outputs.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
            if clipped:
                losses = losses.clamp(LEAST_LOSS, MOST_LOSS)
            # Members share nothing: the gradient of the sum holds each one's own.
            (gradient,) = torch.autograd.grad(losses.mean(1).sum(), leaf)
        _update(parameters, moments, gradient, learning_rates, optimisers, step)
        loss += losses.detach().double().sum(1)
        correct += (outputs.detach().argmax(2) == target).sum(1)
    return loss, correct


def population_evaluate(
    images: Tensor,
    parameters: Tensor,
    filters: Sequence[int],
    n_classes: int,
    output_relu: bool,
    mean: float,
    std: float,
) -> tuple[Tensor, Tensor]:
    """Predicted classes (K, N) uint8, and which filters and outputs are above 0 somewhere (K, F1 + F2 + C)."""
    network = _prepare("population_evaluate", images, parameters, filters, n_classes, output_relu, mean, std)
    n_members = len(parameters)
    predictions = torch.empty(n_members, len(images), dtype=torch.uint8, device=images.device)
    active = torch.zeros(n_members, sum(filters) + n_classes, dtype=torch.bool, device=images.device)
    size = max(1, EVALUATED_AT_ONCE // max(1, n_members))
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        *maps, outputs = network.layers(network.normalise(images[None, part]), parameters)
        predictions[:, part] = network.rectified(outputs).argmax(2).to(torch.uint8)
        active |= torch.cat([(unit > 0).flatten(3).any(3).any(1) for unit in (*maps, outputs[..., None])], 1)
    return predictions, active


def ablate_filters(
    images: Tensor,
    labels: Tensor,
    parameters: Tensor,
    filters: Sequence[int],
    n_classes: int,
    output_relu: bool,
    mean: float,
    std: float,
) -> Tensor:
    """Correct images of a network and of those that lack one filter each: (1 + F1 + F2,) int64."""
    network = _prepare("ablate_filters", images, parameters[None], filters, n_classes, output_relu, mean, std)
    _check_labels("ablate_filters", images, labels, n_classes)
    candidates = _without_each_filter(network.architecture, parameters)
    correct = torch.zeros(len(candidates), dtype=torch.int64, device=images.device)
    size = max(1, EVALUATED_AT_ONCE // len(candidates))
    for part, target in zip(images.split(size), labels.split(size), strict=True):
        outputs = network.outputs(network.normalise(part[None]), candidates)
        correct += (outputs.argmax(2) == target).sum(1)
    return correct


def _without_each_filter(architecture: TinyCNN, parameters: Tensor) -> Tensor:
    """The parameters, and for each filter once more with all that reads it at 0: (1 + F1 + F2, P)."""
    candidates = parameters.repeat(1 + sum(architecture.filters), 1)
    number = 1
    for layer, count in enumerate(architecture.filters, 1):
        readers = f"conv{layer + 1}.weight" if layer < len(architecture.filters) else "dense.weight"
        for position in range(count):
            reader = architecture.split(candidates[number])[readers]
            reader.unflatten(1, (count, -1))[:, position] = 0
            number += 1
    return candidates


@dataclass(frozen=True)
class _Network:
    """Forward passes of K members over images of their own, or over the same for all."""

    architecture: TinyCNN
    mean: float
    std: float

    def normalise(self, pixels: Tensor) -> Tensor:
        return normalise(pixels, self.mean, self.std)

    def layers(self, images: Tensor, parameters: Tensor) -> list[Tensor]:
        """Maps (K, B, F, h, w) of each layer after pooling, and outputs (K, B, C) before their ReLU."""
        parts = self.architecture.split(parameters)
        found = []
        maps = images[:, :, None]
        for number in range(1, len(self.architecture.filters) + 1):
            weight, bias = parts[f"conv{number}.weight"], parts[f"conv{number}.bias"]
            maps = _pool(_convolve(maps, weight, bias))
            found.append(maps)
        outputs = torch.baddbmm(parts["dense.bias"][:, None], maps.flatten(2), parts["dense.weight"].mT)
        return [*found, outputs]

    def outputs(self, images: Tensor, parameters: Tensor) -> Tensor:
        """(K, B, C)."""
        return self.rectified(self.layers(images, parameters)[-1])

    def rectified(self, outputs: Tensor) -> Tensor:
        return outputs.relu() if self.architecture.output_relu else outputs


def _convolve(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Maps (K or 1, B, C, h, w) with filters (K, F, C, 3, 3) and biases (K, F): (K, B, F, h, w)."""
    height, width = maps.shape[-2:]
    columns = unfold(maps.flatten(0, 1), 3, padding=1).unflatten(0, maps.shape[:2])
    convolved = weight.flatten(2)[:, None] @ columns + bias[:, None, :, None]
    result: Tensor = convolved.unflatten(-1, (height, width))
    return result


def _pool(maps: Tensor) -> Tensor:
    pooled: Tensor = max_pool2d(maps.relu().flatten(0, 1), 2).unflatten(0, maps.shape[:2])
    return pooled


def _update(
    parameters: Tensor, moments: Tensor, gradient: Tensor, learning_rates: Tensor, optimisers: Tensor, step: int
) -> None:
    """One step of each member's optimiser, in place."""
    rate, kind = learning_rates[:, None], optimisers[:, None]
    rmsprop, adam = kind == OPTIMISERS.index("rmsprop"), kind == OPTIMISERS.index("adam")
    first, second = moments.unbind(1)
    correction = math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    first.copy_(torch.where(adam, 0.9 * first + 0.1 * gradient, first))
    decay = torch.where(adam, 0.999, 0.9).to(second.dtype)
    gain = torch.where(adam, 0.001, 0.1).to(second.dtype)
    second.copy_(torch.where(adam | rmsprop, decay * second + gain * gradient.square(), second))
    direction = torch.where(adam, correction * first, gradient)
    scale = torch.where(adam | rmsprop, second.sqrt() + EPSILON, 1.0)
    parameters -= rate * direction / scale


def _prepare(
    op: str,
    images: Tensor,
    parameters: Tensor,
    filters: Sequence[int],
    n_classes: int,
    output_relu: bool,
    mean: float,
    std: float,
) -> _Network:
    if images.dim() != 3:
        raise ValueError(f"{op}: images must be (N, H, W), got shape {list(images.shape)}")
    _check(op, images, "images", images, torch.uint8, tuple(images.shape))
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise ValueError(f"{op}: mean = {mean} and std = {std} must be finite, std above 0")
    try:
        architecture = TinyCNN(tuple(filters), (images.shape[1], images.shape[2]), n_classes, output_relu)
    except ValueError as error:
        raise ValueError(f"{op}: {error}") from None
    _check(op, images, "parameters", parameters, torch.float32, (len(parameters), architecture.n_parameters))
    return _Network(architecture, mean, std)


def _check_labels(op: str, images: Tensor, labels: Tensor, n_classes: int) -> None:
    _check(op, images, "labels", labels, torch.int64, (len(images),))
    _check_range(op, "labels", labels, n_classes)


def _check(op: str, images: Tensor, name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype:
        raise TypeError(f"{op}: {name} must be {dtype}, got {tensor.dtype}")
    if tuple(tensor.shape) != shape or not tensor.is_contiguous():
        raise ValueError(f"{op}: {name} must be contiguous of shape {list(shape)}, got {list(tensor.shape)}")
    check_device(op, "images", images, name, tensor)


def _check_range(op: str, name: str, values: Tensor, size: int) -> None:
    wrong = (values < 0) | (values >= size)
    if wrong.any():
        raise IndexError(f"{op}: {name} holds {values[wrong][0].item()}, allowed are 0 to {size - 1}")
