"""Many heads of one shape trained at once: one matrix product for all their first layers, vectors of hyper-parameters."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pydyn.models import heads
from pydyn.models.head_setting import HeadSetting
from pydyn.ops import adamw_, ambiguity_cross_entropy, batch_norm_relu_dropout, gather_rows
from pydyn.ops.reference.hidden import EPS
from pydyn.seeding import torch_generator
from pydyn.training.head_data import HeadData

# Of the running statistics, torch's default.
MOMENTUM = 0.1

# Validation rows evaluated at once. A constant, because the size of a batch can change the last bits.
EVALUATION_ROWS = 1024

# On a CPU, heads whose numbers fit into this much of the last cache train an epoch together, then the next ones do. Measured
# with heads of 128 units on 1,280 features, where more of them at once have each step wait for memory.
CACHE_BYTES = 16 * 2**20
BYTES_A_PARAMETER = 18  # weight, gradient, the optimiser's two means, copy in half precision

# Biases and normalisation do not decay: they hold no features' weights.
DECAYED = ("hidden.weight", "output.weight")

Block = slice


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
    member's training is the same in any population, up to the rounding of matrix products, whose order of summation depends on
    their size.
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
        self.weights = {
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
        self._half: Tensor | None = None
        self._validation_counts = one_hot(data.validation_labels, data.n_classes).sum(0)
        self._validation_classes = self._validation_counts.nonzero().flatten()
        self._refresh()

    def __len__(self) -> int:
        """Members still in it."""
        return len(self.settings)

    def _refresh(self) -> None:
        """Make anew what follows from members and weights."""
        device = self._data.device

        def vector(name: str) -> Tensor:
            return torch.tensor([float(getattr(setting, name)) for setting in self.settings], device=device)

        self._rates, self._decays = vector("learning_rate"), vector("weight_decay")
        self._no_decays = torch.zeros_like(self._decays)
        self._strengths, self._powers, self._dropouts = vector("strength"), vector("power"), vector("dropout")
        self._drops = any(setting.dropout for setting in self.settings)
        if self._data.precision == "bf16":
            self._half = self.weights[self._first].to(torch.bfloat16)

    def _blocks(self) -> Iterator[Block]:
        """Members that are computed together."""
        n_heads = len(self)
        n_blocks = 1
        if self._data.device.type == "cpu":
            n_parameters = sum(self.weights[name][0].numel() for name in self._trained)
            n_blocks = -(-n_heads // max(1, CACHE_BYTES // (BYTES_A_PARAMETER * n_parameters)))
        size = -(-n_heads // n_blocks)
        return (slice(start, min(start + size, n_heads)) for start in range(0, n_heads, size))

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
        order = torch.randperm(len(data.labels), generator=generator).to(data.device)
        # Of a single row there is no variance to normalise by: it is left out, another one in each epoch.
        batches = [batch for batch in order.split(setting.batch_size) if len(batch) > 1]
        uniforms = _Uniforms(setting, epoch, data.device) if self._drops else None
        total = torch.zeros(len(self), dtype=torch.float64, device=data.device)
        steps = self._steps
        for block in self._blocks():
            self._steps = steps
            for number, batch in enumerate(batches):
                features, labels = gather_rows(data.features, batch, data.labels)
                draws = None if uniforms is None else uniforms(number, len(batch))
                total[block] += self._step(block, features, labels, draws)
        counted = data.labels[torch.cat(batches)]
        return total / (
            len(counted) if self._class_weight is None else self._class_weight[counted].sum(dtype=torch.float64)
        )

    def _step(self, block: Block, features: Tensor, labels: Tensor, uniforms: Tensor | None) -> Tensor:
        """A step of all members of a block. Returns each one's sum of losses, (k,)."""
        self._steps += 1
        gradients, losses = self.gradients(block, features, labels, uniforms)
        for name, gradient in gradients.items():
            first = name == self._first
            adamw_(
                self.weights[name][block],
                gradient,
                self._means[name][block],
                self._squares[name][block],
                rates=self._rates[block],
                decays=(self._decays if name in DECAYED else self._no_decays)[block],
                step=self._steps,
                copy=self._half[block] if first and self._half is not None else None,
            )
        return losses

    def gradients(
        self, block: Block, features: Tensor, labels: Tensor, uniforms: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of each member's own loss, and running statistics brought up to date.

        Args:
            block: which members.
            features: (B, D) in the data's dtype.
            labels: (B,) int64.
            uniforms: (H, B) float32 draws of dropout, or None.

        Returns:
            Of each trained weight (k, ...), float32 or the data's dtype; and each member's sum of cross-entropies, (k,) float32.
        """
        leaves = {name: self._compute(name)[block].detach().requires_grad_() for name in self._trained}
        logits = self._logits(block, leaves, features, uniforms)
        loss, losses = self._loss(block, logits, labels)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True)), losses

    def _compute(self, name: str) -> Tensor:
        """A weight in the dtype that it is computed with."""
        return self._half if name == self._first and self._half is not None else self.weights[name]

    def _logits(self, block: Block, leaves: Mapping[str, Tensor], features: Tensor, uniforms: Tensor | None) -> Tensor:
        """(k, B, C) float32, in training mode."""
        units = _product(leaves[self._first], features)
        if self._first == "output.weight":
            return (units.transpose(1, 2) + leaves["output.bias"][:, None]).contiguous()
        rates = None if uniforms is None else self._dropouts[block]
        activations, mean, variance = batch_norm_relu_dropout(
            units, leaves["norm.weight"], leaves["norm.bias"], uniforms, rates
        )
        with torch.no_grad():
            n_rows = len(features)
            self.weights["norm.running_mean"][block].lerp_(mean, MOMENTUM)
            self.weights["norm.running_var"][block].lerp_(variance * (n_rows / (n_rows - 1)), MOMENTUM)
        return _output(leaves, activations)

    def _loss(self, block: Block, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of all members' losses, and (k,) each one's sum of cross-entropies."""
        groups = [list(alike) for _, alike in groupby(self.settings[block], loss_options)]
        sizes = [len(members) for members in groups]
        # Splitting costs the backward pass a copy, which most populations need not pay.
        parts = [logits] if len(groups) == 1 else logits.split(sizes)
        terms = [
            ambiguity_cross_entropy(
                part,
                labels,
                strength=strength,
                power=power,
                threshold=members[0].threshold,
                class_weight=self._class_weight,
                label_smoothing=members[0].label_smoothing,
                reduction=members[0].normalisation,
                terms=True,
            )
            for members, part, strength, power in zip(
                groups, parts, self._strengths[block].split(sizes), self._powers[block].split(sizes), strict=True
            )
        ]
        return torch.cat([term.loss for term in terms]).sum(), torch.cat([term.losses.sum(-1) for term in terms])

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
        for block in self._blocks():
            weights = {name: self._compute(name)[block] for name in self.weights}
            for features, labels in zip(
                data.validation_features.split(EVALUATION_ROWS),
                data.validation_labels.split(EVALUATION_ROWS),
                strict=True,
            ):
                logits = evaluation_logits(weights, features)
                terms = ambiguity_cross_entropy(
                    logits, labels, strength=0.0, class_weight=self._class_weight, reduction="none", terms=True
                )
                losses[block] += terms.losses.sum(-1, dtype=torch.float64)
                hits[block] += (terms.correct.float() @ one_hot(labels, data.n_classes).float()).double()
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
            weights["norm.num_batches_tracked"] = torch.tensor(0)  # torch reads it for no momentum only
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
        """Everything that later epochs depend on, but for data and settings."""
        names = ("weights", "_means", "_squares", "_best")
        return {"steps": self._steps} | {name.strip("_"): dict(getattr(self, name)) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict` of a population with the same members."""
        for name in ("weights", "_means", "_squares", "_best"):
            for key, value in getattr(self, name).items():
                value.copy_(state[name.strip("_")][key])
        self._steps = state["steps"]
        self._refresh()


class _Uniforms:
    """Draws of dropout for an epoch's steps, made on the CPU, so that every device sees the same, and once for all blocks."""

    def __init__(self, setting: HeadSetting, epoch: int, device: torch.device) -> None:
        self._generator = torch_generator(setting.seed, "dropout", epoch)
        self._n_units = setting.hidden or 0
        self._device = device
        self._draws: list[Tensor] = []

    def __call__(self, step: int, n_rows: int) -> Tensor:
        """(H, n_rows), of a step that is at most one beyond those asked for before."""
        if step == len(self._draws):
            draws = torch.rand(self._n_units, n_rows, generator=self._generator)
            self._draws.append(draws.to(self._device, non_blocking=True))
        return self._draws[step]


def _product(weight: Tensor, features: Tensor) -> Tensor:
    """Weights (k, U, D) times features (B, D): (k, U, B), as one matrix product."""
    n_heads, n_units, _ = weight.shape
    return (weight.flatten(0, 1) @ features.t()).view(n_heads, n_units, len(features))


def _output(weights: Mapping[str, Tensor], activations: Tensor) -> Tensor:
    """Activations (k, H, B) to logits (k, B, C)."""
    logits = torch.baddbmm(weights["output.bias"][..., None], weights["output.weight"], activations)
    return logits.transpose(1, 2).contiguous()


def evaluation_logits(weights: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """What heads (k, ...) make of features (B, D) in evaluation mode: (k, B, C) float32."""
    if "hidden.weight" not in weights:
        return (
            _product(weights["output.weight"], features).transpose(1, 2) + weights["output.bias"][:, None]
        ).contiguous()
    units = _product(weights["hidden.weight"], features).float()
    scale = weights["norm.weight"] * torch.rsqrt(weights["norm.running_var"] + EPS)
    shift = weights["norm.bias"] - weights["norm.running_mean"] * scale
    return _output(weights, units.mul_(scale[..., None]).add_(shift[..., None]).relu_())
