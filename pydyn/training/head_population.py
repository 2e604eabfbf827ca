"""Many heads of one shape trained at once: one matrix product for all their first layers, vectors of hyper-parameters."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pydyn.models import heads
from pydyn.models.head_setting import HeadSetting
from pydyn.ops import (
    adamw_,
    ambiguity_cross_entropy,
    batch_norm_relu_dropout,
    batch_norm_relu_dropout_backward,
    gather_rows,
)
from pydyn.seeding import torch_generator
from pydyn.training.head_data import HeadData
from pydyn.training.head_layers import evaluation_logits, outer, product, to_logits

# Of the running statistics, torch's default.
MOMENTUM = 0.1

# Validation rows evaluated at once. A constant, because the size of a batch can change the last bits.
EVALUATION_ROWS = 512

# Biases and normalisation do not decay: they hold no features' weights.
DECAYED = ("hidden.weight", "output.weight")


def shared(setting: HeadSetting) -> tuple[Any, ...]:
    """What the heads of one population have in common."""
    return setting.kind, setting.hidden, setting.batch_size, setting.seed


def loss_options(setting: HeadSetting) -> tuple[str, float, float]:
    """What the heads of one call of the loss have in common, sortable."""
    threshold = -1.0 if setting.threshold is None else setting.threshold
    return setting.normalisation, threshold, setting.label_smoothing


class Population:
    """Heads of one kind, size, batch size and seed, in training. Everything is on the data's device.

    Members share initial weights, the order of the rows and the uniform draws of dropout, which depend on their seed alone; so a
    member's training is the same in any population, up to the rounding of matrix products, whose order of summation may depend on
    their size. After twenty epochs on a CPU weights and losses differed by 4e-7 at most; tests hold weights to 1e-3 and losses
    to 1e-4, in bfloat16 to 3e-2 and 1e-2.

    A member takes 16 bytes a parameter, in bfloat16 18, and its gradient during a step.
    """

    def __init__(self, data: HeadData, settings: Sequence[HeadSetting], class_weight: Tensor | None) -> None:
        """Begin.

        Args:
            data: to train on.
            settings: of the members, equal in `shared`, sorted by `loss_options`.
            class_weight: (C,) float32 on the data's device, or None.
        """
        self.settings = list(settings)
        self._data = data
        self._class_weight = class_weight
        first = settings[0]
        head = heads.build(
            first.kind,
            data.n_features,
            data.n_classes,
            torch_generator(first.seed, "initialisation"),
            hidden=first.hidden,
        )
        state = {name: value.to(data.device) for name, value in head.state_dict().items()}
        n_heads = len(settings)
        self.weights: dict[str, Tensor] = {
            name: value.repeat(n_heads, *[1] * value.dim())
            for name, value in state.items()
            if value.is_floating_point()
        }
        """(K, ...) float32 under a head's own names, running statistics among them."""
        self._trained = [name for name, _ in head.named_parameters()]
        self._first = self._trained[0]
        self._means = {name: torch.zeros_like(self.weights[name]) for name in self._trained}
        self._squares = {name: torch.zeros_like(self.weights[name]) for name in self._trained}
        self._steps = 0
        self._best = {name: value.clone() for name, value in self.weights.items()}
        self._validation_counts = one_hot(data.validation_labels, data.n_classes).sum(0)
        self._validation_classes = self._validation_counts.nonzero().flatten()
        self._refresh()

    def __len__(self) -> int:
        """Members still in it."""
        return len(self.settings)

    def _refresh(self) -> None:
        """Make anew what follows from members and weights."""

        def vector(name: str) -> Tensor:
            values = [float(getattr(setting, name)) for setting in self.settings]
            return torch.tensor(values, dtype=torch.float32, device=self._data.device)

        self._rates, self._dropouts = vector("learning_rate"), vector("dropout")
        decays = vector("weight_decay")
        self._decays = {name: decays if name in DECAYED else torch.zeros_like(decays) for name in self._trained}
        self._drops = any(setting.dropout for setting in self.settings)
        groups = [list(alike) for _, alike in groupby(self.settings, loss_options)]
        self._loss_settings = [alike[0] for alike in groups]
        self._loss_sizes = [len(alike) for alike in groups]
        self._strengths = vector("strength").split(self._loss_sizes)
        self._powers = vector("power").split(self._loss_sizes)
        first = self.weights[self._first]
        self._copy = first.to(torch.bfloat16) if self._data.precision == "bf16" else None

    def train_epoch(self, epoch: int) -> Tensor:
        """Train every member on every row once.

        Args:
            epoch: from 1; with the seed it decides order and dropout.

        Returns:
            (K,) float64: mean cross-entropy of the rows as each was trained, with class weights and label smoothing, but without
            ambiguity weights.
        """
        data, setting = self._data, self.settings[0]
        generator = torch_generator(setting.seed, "order", epoch)
        order = torch.randperm(len(data.labels), generator=generator, device="cpu").to(data.device)
        # Of a single row there is no variance to normalise by: it is left out, another one in each epoch.
        batches = [batch for batch in order.split(setting.batch_size) if len(batch) > 1]
        draws = torch_generator(setting.seed, "dropout", epoch) if self._drops else None
        total = torch.zeros(len(self), dtype=torch.float64, device=data.device)
        for batch in batches:
            features, labels = gather_rows(data.features, batch, data.labels)
            uniforms = None if draws is None else _uniforms(draws, setting, len(batch), data.device)
            total += self._step(features, labels, uniforms)
        counted = data.labels[torch.cat(batches)]
        return total / (
            len(counted) if self._class_weight is None else self._class_weight[counted].sum(dtype=torch.float64)
        )

    def _step(self, features: Tensor, labels: Tensor, uniforms: Tensor | None) -> Tensor:
        """A step of all members. Returns each one's sum of cross-entropies, (K,)."""
        self._steps += 1
        gradients, losses = self.gradients(features, labels, uniforms)
        for name, gradient in gradients.items():
            adamw_(
                self.weights[name],
                gradient,
                self._means[name],
                self._squares[name],
                rates=self._rates,
                decays=self._decays[name],
                step=self._steps,
                copy=self._copy if name == self._first else None,
            )
        return losses

    @torch.no_grad()
    def gradients(self, features: Tensor, labels: Tensor, uniforms: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """What a step would step by. Brings running statistics up to date.

        Args:
            features: (B, D) in the data's dtype.
            labels: (B,) int64.
            uniforms: (H, B) float32 draws of dropout, or None.

        Returns:
            Gradients of each member's own loss by the names of its weights, (K, ...) in float32 or the data's dtype; and each
            member's sum of cross-entropies, (K,) float32.
        """
        # By hand: of a step on few heads, autograd's own work would be the larger part.
        weights = self.weights
        units = product(self._first_weight, features)
        if self._first == "output.weight":
            gradient, losses = self._loss(to_logits(units, weights["output.bias"]), labels)
            by_unit = gradient.transpose(1, 2).to(features.dtype)
            return {"output.weight": outer(by_unit, features), "output.bias": gradient.sum(1)}, losses
        rates = None if uniforms is None else self._dropouts
        activations, mean, variance = batch_norm_relu_dropout(
            units, weights["norm.weight"], weights["norm.bias"], uniforms, rates
        )
        n_rows = len(features)
        weights["norm.running_mean"].lerp_(mean, MOMENTUM)
        weights["norm.running_var"].lerp_(variance * (n_rows / (n_rows - 1)), MOMENTUM)
        logits = to_logits(torch.bmm(weights["output.weight"], activations), weights["output.bias"])
        gradient, losses = self._loss(logits, labels)
        by_class = gradient.transpose(1, 2).contiguous()
        to_units, to_norm_weight, to_norm_bias = batch_norm_relu_dropout_backward(
            torch.bmm(weights["output.weight"].transpose(1, 2), by_class),
            units,
            activations,
            weights["norm.weight"],
            mean,
            variance,
            rates,
        )
        return {
            "hidden.weight": outer(to_units, features),
            "norm.weight": to_norm_weight,
            "norm.bias": to_norm_bias,
            "output.weight": torch.bmm(by_class, activations.transpose(1, 2)),
            "output.bias": gradient.sum(1),
        }, losses

    @property
    def _first_weight(self) -> Tensor:
        """The first layer's weights in the data's dtype."""
        return self.weights[self._first] if self._copy is None else self._copy

    def _loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient (K, B, C) of each member's loss, and (K,) its sum of cross-entropies."""
        parts = logits.split(self._loss_sizes)
        gradients, losses = [], []
        for part, strength, power, setting in zip(
            parts, self._strengths, self._powers, self._loss_settings, strict=True
        ):
            part.requires_grad_()
            with torch.enable_grad():
                terms = ambiguity_cross_entropy(
                    part,
                    labels,
                    strength=strength,
                    power=power,
                    threshold=setting.threshold,
                    class_weight=self._class_weight,
                    label_smoothing=setting.label_smoothing,
                    reduction=setting.normalisation,
                    terms=True,
                )
            gradients += torch.autograd.grad(terms.loss, part, torch.ones_like(terms.loss))
            losses.append(terms.losses.sum(-1))
        return (gradients[0], losses[0]) if len(losses) == 1 else (torch.cat(gradients), torch.cat(losses))

    @torch.no_grad()
    def evaluate(self) -> list[tuple[float, float, float]]:
        """Each member on the validation rows.

        Returns:
            Mean cross-entropy (with class weights, without smoothing or ambiguity weights), accuracy and balanced accuracy, the
            mean over the classes that are there of the share that is recognised.
        """
        data = self._data
        counts = self._validation_counts
        losses = torch.zeros(len(self), dtype=torch.float64, device=data.device)
        hits = torch.zeros(len(self), data.n_classes, dtype=torch.float64, device=data.device)
        weights = {**self.weights, self._first: self._first_weight}
        for features, labels in zip(
            data.validation_features.split(EVALUATION_ROWS), data.validation_labels.split(EVALUATION_ROWS), strict=True
        ):
            terms = ambiguity_cross_entropy(
                evaluation_logits(weights, features),
                labels,
                strength=0.0,
                class_weight=self._class_weight,
                reduction="none",
                terms=True,
            )
            losses += terms.losses.sum(-1, dtype=torch.float64)
            hits += terms.correct.float() @ one_hot(labels, data.n_classes).float()
        divisor = counts.sum() if self._class_weight is None else self._class_weight.double() @ counts.double()
        accuracies = hits.sum(1) / counts.sum()
        balanced = (hits / counts)[:, self._validation_classes].mean(1)
        # The one wait for the device in an epoch.
        rows: list[list[float]] = torch.stack([losses / divisor, accuracies, balanced], 1).tolist()
        return [(loss, accuracy, balanced_accuracy) for loss, accuracy, balanced_accuracy in rows]

    def remember(self, members: Sequence[int]) -> None:
        """Keep the weights of these members as they are now."""
        index = torch.tensor(members, dtype=torch.int64, device=self._data.device)
        for name, value in self.weights.items():
            self._best[name][index] = value[index]

    def remembered(self, member: int) -> dict[str, Tensor]:
        """A member's weights when they were last remembered: a state dictionary of `pydyn.models.heads`, on the CPU."""
        weights = {name: value[member].to("cpu", copy=True) for name, value in self._best.items()}
        if self._first == "hidden.weight":
            weights["norm.num_batches_tracked"] = torch.tensor(0, device="cpu")  # torch reads it for no momentum only
        if self._data.standardisation is not None:
            weights["standardise.mean"] = self._data.standardisation.mean.to("cpu", copy=True)
            weights["standardise.scale"] = self._data.standardisation.scale.to("cpu", copy=True)
        return weights

    def keep(self, members: Sequence[int]) -> None:
        """Let all others leave: they cost nothing from now on."""
        index = torch.tensor(members, dtype=torch.int64, device=self._data.device)
        for tensors in (self.weights, self._means, self._squares, self._best):
            for name, value in tensors.items():
                tensors[name] = value[index]
        self.settings = [self.settings[member] for member in members]
        self._refresh()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later epochs depend on, as it is now, but for data and settings."""
        names = ("weights", "_means", "_squares", "_best")
        return {"steps": self._steps} | {
            name.strip("_"): {key: value.clone() for key, value in getattr(self, name).items()} for name in names
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of a population with the same members."""
        for name in ("weights", "_means", "_squares", "_best"):
            for key, value in getattr(self, name).items():
                value.copy_(state[name.strip("_")][key])
        self._steps = state["steps"]
        self._refresh()


def _uniforms(draws: torch.Generator, setting: HeadSetting, n_rows: int, device: torch.device) -> Tensor:
    """A step's draws of dropout, (H, n_rows): made on the CPU, so that every device sees the same."""
    drawn = torch.rand(setting.hidden or 0, n_rows, generator=draws, dtype=torch.float32, device="cpu")
    return drawn.to(device, non_blocking=True)
