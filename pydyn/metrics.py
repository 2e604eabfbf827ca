"""How good predictions are, in the terms that medicine asks for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 15

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """Of predictions on one set of images. Shares are in 0..1."""

    accuracy: float
    balanced_accuracy: float
    """Mean of the classes' recalls."""
    macro_f1: float
    auroc: float | None
    """Area under the ROC curve, the mean over one-against-rest for more than two classes; None if a class has no image."""
    ece: float
    """Expected calibration error over 15 bins of equal width (Guo et al. 2017, Eq. 3)."""
    group_accuracy: float | None
    """Mean over groups (patients, say) of the share of a group's images that are right; None without groups."""
    n_images: int
    n_groups: int
    confusion: list[list[int]]
    """Images of class i (rows) taken for class j (columns)."""


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose largest probability lies in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean of the largest probabilities; NaN without images."""
    accuracy: float
    """Share of right predictions; NaN without images."""


def measure(probabilities: Probabilities, labels: NDArray[np.int64], groups: NDArray[np.int32] | None) -> Metrics:
    """Measure predictions.

    Args:
        probabilities: (n, C), each row adding up to 1; n at least 1.
        labels: (n,), in 0..C-1.
        groups: (n,), the group of each image, below 0 for none; None: no groups.
    """
    from sklearn import metrics

    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(n_classes)
    right = predicted == labels
    found = np.unique(labels)
    auroc = None
    if len(found) == n_classes:
        scores = probabilities[:, 1] if n_classes == 2 else probabilities
        auroc = float(metrics.roc_auc_score(labels, scores, multi_class="ovr", average="macro"))
    known = np.flatnonzero(groups >= 0) if groups is not None else np.empty(0, np.int64)
    group_accuracy, n_groups = None, 0
    if groups is not None and len(known):
        names, members = np.unique(groups[known], return_inverse=True)
        group_accuracy = float(np.mean(np.bincount(members, right[known]) / np.bincount(members)))
        n_groups = len(names)
    return Metrics(
        accuracy=float(right.mean()),
        # Over the classes there are: a class without images has no recall.
        balanced_accuracy=float(np.mean([right[labels == label].mean() for label in found])),
        macro_f1=float(metrics.f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)),
        auroc=auroc,
        ece=sum(
            bin.count / len(labels) * abs(bin.confidence - bin.accuracy)
            for bin in calibration(probabilities, labels)
            if bin.count
        ),
        group_accuracy=group_accuracy,
        n_images=len(labels),
        n_groups=n_groups,
        confusion=metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
    )


def calibration(probabilities: Probabilities, labels: NDArray[np.int64]) -> list[CalibrationBin]:
    """A reliability diagram's bins; `probabilities` (n, C), `labels` (n,)."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    found = []
    for position in range(CALIBRATION_BINS):
        members = bins == position
        count = int(members.sum())
        found.append(
            CalibrationBin(
                position / CALIBRATION_BINS,
                (position + 1) / CALIBRATION_BINS,
                count,
                float(confidence[members].mean()) if count else float("nan"),
                float(right[members].mean()) if count else float("nan"),
            )
        )
    return found
