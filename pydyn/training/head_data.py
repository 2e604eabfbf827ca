"""Features and labels as heads train on them: checked, standardised, in the dtype of the matrix products."""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from pydyn.models.heads import Standardisation
from pydyn.ops import gather_rows

Precision = Literal["fp32", "bf16"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

# Rows that are converted at a time, so that no second copy of all features is ever made.
CHUNK_ROWS = 1024

# A standard deviation this small, beside the mean or at all, is rounding: half precision keeps 1e-3 of a number.
CONSTANT = 1e-6
LEAST_DEVIATION = 1e-30


@dataclass(frozen=True)
class HeadData:
    """What heads train on and are judged by, on one device."""

    features: Tensor
    """(n_train, D), float32 or bfloat16, contiguous."""
    labels: Tensor
    """(n_train,) int64."""
    validation_features: Tensor
    """(n_validation, D) likewise."""
    validation_labels: Tensor
    n_classes: int
    standardisation: Standardisation | None
    """What was done to the features, or None."""
    precision: Precision

    @classmethod
    def prepare(
        cls,
        features: Tensor,
        labels: Tensor,
        train: Tensor,
        validation: Tensor,
        *,
        n_classes: int | None = None,
        standardise: bool = True,
        precision: Precision = "fp32",
    ) -> Self:
        """Gather the rows of both parts, once.

        Args:
            features: (N, D), float16, bfloat16 or float32, contiguous; a gradient they may want is not made.
            labels: (N,) int64, contiguous, each in [0, n_classes), on the same device.
            train: int64, rows to train on, at least 2.
            validation: int64, rows to judge by, at least 1, none of them in `train`.
            n_classes: at least 2; None: one more than the largest label of both parts.
            standardise: shift and scale every dimension to mean 0 and standard deviation 1 over the training rows; one that is
                constant there becomes 0 everywhere.
            precision: `fp32`, or `bf16` for features and matrix products in bfloat16, on devices that are faster that way.

        Raises:
            ValueError: a shape, a range, an overlap or a feature that is not finite; the message names it.
            TypeError: a dtype is wrong.
        """
        _check(features, labels, train, validation, precision)
        features = features.detach()
        parts = train.to(features.device), validation.to(features.device)
        for part in parts:
            _check_finite(features, part)
        part_labels = [gather_rows(labels, part) for part in parts]
        n_classes = _check_labels(part_labels, n_classes)
        standardisation = _standardisation(features, parts[0]) if standardise else None
        rows = [_rows(features, part, standardisation, DTYPES[precision]) for part in parts]
        return cls(rows[0], part_labels[0], rows[1], part_labels[1], n_classes, standardisation, precision)

    @property
    def n_features(self) -> int:
        """D."""
        return self.features.shape[1]

    @property
    def device(self) -> torch.device:
        """Where features, labels and heads are."""
        return self.features.device


def _standardisation(features: Tensor, train: Tensor) -> Standardisation:
    # Sums in float64: the variance of many equal numbers must not come out of their rounding.
    count = len(train)
    chunks = train.split(CHUNK_ROWS)
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for chunk in chunks:
        total += gather_rows(features, chunk, dtype=torch.float32).sum(0, dtype=torch.float64)
    mean = total / count
    squares = torch.zeros_like(total)
    for chunk in chunks:
        squares += (gather_rows(features, chunk, dtype=torch.float32) - mean).square_().sum(0)
    deviation = (squares / count).sqrt()
    scale = torch.where(deviation > CONSTANT * mean.abs() + LEAST_DEVIATION, 1 / deviation, 0)
    return Standardisation(mean.float(), scale.float())


def _rows(features: Tensor, index: Tensor, standardisation: Standardisation | None, dtype: torch.dtype) -> Tensor:
    if standardisation is None:
        return gather_rows(features, index, dtype=dtype)
    rows = torch.empty(len(index), features.shape[1], dtype=dtype, device=features.device)
    for part, out in zip(index.split(CHUNK_ROWS), rows.split(CHUNK_ROWS), strict=True):
        chunk = gather_rows(features, part, dtype=torch.float32)
        out.copy_(chunk.sub_(standardisation.mean).mul_(standardisation.scale))
    return rows


def _check(features: Tensor, labels: Tensor, train: Tensor, validation: Tensor, precision: str) -> None:
    for name, given in (("features", features), ("labels", labels), ("train", train), ("validation", validation)):
        if not isinstance(given, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(given).__name__}; torch.as_tensor makes one of it")
    if precision not in DTYPES:
        raise ValueError(f"precision = {precision!r} is none of {', '.join(DTYPES)}")
    if features.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise TypeError(f"features must be float16, bfloat16 or float32, got {features.dtype}")
    if features.dim() != 2 or features.shape[1] < 1:
        raise ValueError(f"features must have shape (N, D) with D at least 1, got {list(features.shape)}")
    if labels.shape != features.shape[:1]:
        raise ValueError(f"labels must have shape [{len(features)}], one for each row, got {list(labels.shape)}")
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64, got {labels.dtype}")
    for name, index, least in (("train", train, 2), ("validation", validation, 1)):
        if index.dtype != torch.int64:
            raise TypeError(f"{name} must be int64, got {index.dtype}")
        if index.dim() != 1 or len(index) < least:
            raise ValueError(f"{name} must be a list of at least {least} rows, got shape {list(index.shape)}")
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= len(features):
            raise ValueError(
                f"{name} holds row {low if low < 0 else high}: features have rows 0 to {len(features) - 1}"
            )
    if shared := int(torch.isin(validation.to(train.device), train).sum()):
        raise ValueError(
            f"validation shares {shared} of its {len(validation)} rows with train: it must have none of them"
        )


def _check_labels(parts: list[Tensor], n_classes: int | None) -> int:
    low, high = min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)
    if n_classes is None:
        n_classes = high + 1
    if n_classes < 2:
        raise ValueError(f"n_classes = {n_classes}: a classifier needs at least 2 classes")
    if low < 0 or high >= n_classes:
        raise ValueError(
            f"labels hold {low if low < 0 else high}: with n_classes = {n_classes} allowed are 0 to {n_classes - 1}"
        )
    return n_classes


def _check_finite(features: Tensor, index: Tensor) -> None:
    for chunk in index.split(CHUNK_ROWS):
        finite = gather_rows(features, chunk).isfinite().all(1)
        if not finite.all():
            raise ValueError(f"features hold NaN or infinity in row {int(chunk[~finite][0])}")
