"""Metrics by hand and against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from pydyn.metrics import CALIBRATION_BINS, calibration, measure

THREE = np.array(
    [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.35, 0.25], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4], [0.9, 0.05, 0.05]]
)
LABELS = np.array([0, 1, 1, 2, 0, 0])


def test_by_hand():
    found = measure(THREE, LABELS, np.array([0, 0, 8, 8, -1, 9], np.int32))
    # Taken for: 0 1 0 2 2 0. Right: 1 1 0 1 0 1.
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    # F1 of 0: 2 right of 3 taken and 3 there; of 1: 1 of 1 and 2; of 2: 1 of 2 and 1.
    assert found.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 2 / 3) / 3)
    assert found.group_accuracy == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert (found.n_images, found.n_groups) == (6, 3)
    assert found.confusion == [[2, 0, 1], [1, 1, 0], [0, 0, 1]]


def test_calibration_by_hand():
    # Largest probabilities 0.6 0.5 0.4 0.8 0.4 0.9, right 1 1 0 1 0 1.
    # Bins of a fifteenth, closed above: 0.4 = 6/15 is in the sixth.
    bins = {position: found for position, found in enumerate(calibration(THREE, LABELS)) if found.count}
    assert {
        position: (found.count, round(found.confidence, 9), found.accuracy) for position, found in bins.items()
    } == {
        5: (2, 0.4, 0.0),
        7: (1, 0.5, 1.0),
        8: (1, 0.6, 1.0),
        11: (1, 0.8, 1.0),
        13: (1, 0.9, 1.0),
    }
    expected = (2 * 0.4 + 0.5 + 0.4 + 0.2 + 0.1) / 6
    assert measure(THREE, LABELS, None).ece == pytest.approx(expected)


@given(st.integers(2, 5), st.integers(1, 60), st.integers(0, 1000))
def test_against_scikit_learn(n_classes, n_images, seed):
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet(np.ones(n_classes), n_images)
    labels = draw.integers(0, n_classes, n_images)
    found = measure(probabilities, labels, None)
    predicted = probabilities.argmax(1)
    assert found.accuracy == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert sum(map(sum, found.confusion)) == n_images
    confusion = np.array(found.confusion)
    # A class that is neither there nor predicted counts as one of which nothing is found.
    both = np.maximum(confusion.sum(0) + confusion.sum(1), 1)
    assert found.macro_f1 == pytest.approx(np.mean(2 * confusion.diagonal() / both))
    assert (found.group_accuracy, found.n_groups) == (None, 0)
    bins = calibration(probabilities, labels)
    assert len(bins) == CALIBRATION_BINS
    assert sum(bin.count for bin in bins) == n_images
    assert sum(bin.count * bin.accuracy for bin in bins if bin.count) == pytest.approx(n_images * found.accuracy)
    if len(set(labels)) == n_classes:
        assert found.balanced_accuracy == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predicted))
        scores = probabilities[:, 1] if n_classes == 2 else probabilities
        assert found.auroc == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores, multi_class="ovr"))
    else:
        assert found.auroc is None


def test_a_perfect_prediction():
    found = measure(np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 2]), np.array([-1, -1, -1, -1], np.int32))
    assert (found.accuracy, found.balanced_accuracy, found.macro_f1, found.auroc, found.ece) == (1, 1, 1, 1, 0)
    assert found.group_accuracy is None
