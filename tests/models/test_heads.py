"""Heads as plain modules: what they compute, how they begin, what folding keeps."""

import dataclasses

import pytest
import torch
from torch import nn

from pydyn.models import heads
from pydyn.models.head_setting import HeadSetting

KINDS = [("linear", {}), ("redesigned", {"hidden": 7, "dropout": 0.3})]


def build(kind="redesigned", seed=0, n_features=12, n_classes=3, **options):
    return heads.build(kind, n_features, n_classes, torch.Generator().manual_seed(seed), **options)


def trained(kind, options, **more):
    """A head none of whose numbers are those it began with."""
    head = build(kind, **options, **more)
    generator = torch.Generator().manual_seed(9)
    for name, value in head.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + (0.5 if "var" in name or "scale" in name else 0))
    return head


def test_linear_is_one_linear_layer():
    head = build("linear")
    features = torch.randn(5, 12)
    expected = features @ head.output.weight.t() + head.output.bias
    torch.testing.assert_close(head(features), expected)


def test_redesigned_has_the_layers_of_its_source():
    layers = list(build(hidden=7, dropout=0.3))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout, nn.Linear]
    assert layers[0].weight.shape == (7, 12)
    assert layers[0].bias is None
    assert layers[3].p == 0.3
    assert layers[4].weight.shape == (3, 7)


def test_begins_as_documented_and_from_its_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two, other = (build(hidden=400, n_features=500, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.hidden.weight, other.hidden.weight)
    assert one.hidden.weight.detach().std() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert one.output.weight.detach().std() == pytest.approx(0.01, rel=0.05)
    assert not one.output.bias.any()
    assert torch.isfinite(one.eval()(torch.randn(2, 500))).all()


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_folding_keeps_the_logits_and_the_original(kind, options):
    head = trained(kind, options, standardised=True).eval()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    features = torch.randn(20, 12) * 3 + 5
    folded = heads.fold(head)
    assert [name for name, _ in folded.named_children()] == [name for name, _ in list(head.named_children())[1:]]
    torch.testing.assert_close(folded(features), head(features), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("standardised", [False, True])
def test_weights_alone_say_which_head_they_are_of(kind, options, standardised):
    head = trained(kind, options, standardised=standardised).eval()
    again = heads.from_weights(head.state_dict())
    features = torch.randn(4, 12).half()
    if not standardised:
        features = features.float()
    assert torch.equal(again(features), head(features))
    assert not again.training


@pytest.mark.parametrize("weights", [{}, {"output.weight": torch.zeros(3)}, {"output.weight": torch.zeros(3, 4)}])
def test_what_is_no_head_is_refused(weights):
    with pytest.raises(ValueError, match="not the weights of a head"):
        heads.from_weights(weights)


def test_unknown_kinds_and_missing_sizes_are_refused():
    with pytest.raises(ValueError, match="kind = 'deep' is none of linear, redesigned"):
        build("deep")
    with pytest.raises(ValueError, match="hidden = None: a redesigned head needs"):
        build("redesigned")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "deep"}, "kind = 'deep' is none of linear, redesigned"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0 is not a finite number above 0"),
        ({"learning_rate": float("inf")}, "learning_rate = inf is not"),
        ({"learning_rate": "1e-3"}, "learning_rate = '1e-3' is not"),
        ({"weight_decay": -1e-3}, "weight_decay = -0.001 is not a finite number of at least 0"),
        ({"strength": float("nan")}, "strength = nan is not"),
        ({"power": -1}, "power = -1 is not"),
        ({"threshold": 1.5}, "threshold = 1.5 is not a number from 0 to 1"),
        ({"label_smoothing": None}, "label_smoothing = None is not a number from 0 to 1"),
        ({"normalisation": "sum"}, "normalisation = 'sum' is none of mean, weighted_mean"),
        ({"kind": "redesigned"}, "hidden = None is not a whole number of at least 1"),
        ({"kind": "redesigned", "hidden": 0}, "hidden = 0 is not"),
        (
            {"kind": "redesigned", "hidden": 8, "dropout": 1.0},
            "dropout = 1.0 is not a number of at least 0 and below 1",
        ),
        ({"hidden": 8}, "hidden = 8: a linear head has no hidden units; leave it out"),
        ({"dropout": 0.5}, "dropout = 0.5: a linear head has no hidden units; leave it out"),
        ({"batch_size": 1}, "batch_size = 1 is not a whole number of at least 2"),
        ({"batch_size": 32.0}, "batch_size = 32.0 is not"),
        ({"seed": True}, "seed = True is not a whole number"),
    ],
)
def test_wrong_settings_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        HeadSetting(**{"kind": "linear", "learning_rate": 1e-3, **changes})


def test_settings_are_values():
    one, two = (HeadSetting("redesigned", 1e-3, hidden=8, threshold=0.3) for _ in range(2))
    assert one == two
    assert len({one, two, dataclasses.replace(one, seed=1)}) == 2
