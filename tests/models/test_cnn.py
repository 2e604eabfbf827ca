"""The studies' networks: sizes by hand, initialisation, learning."""

import pytest
import torch

from pydyn.models import cnn


def build(name="cnn_a", in_channels=3, n_classes=10, seed=0, **options):
    return cnn.build(name, in_channels, n_classes, torch.Generator().manual_seed(seed), **options)


def conv(inputs, outputs):
    return 9 * inputs * outputs + outputs


def test_cnn_a_has_the_parameters_of_table_1():
    by_hand = (
        conv(3, 32) + 2 * conv(32, 32) + conv(32, 64) + 3 * conv(64, 64) + conv(64, 128) + 6 * conv(128, 128)
    ) + (128 * 10 + 10)
    assert cnn.count_parameters(build()) == by_hand == 1_109_322


def test_cnn_b_has_the_parameters_of_our_reading():
    by_hand = conv(3, 3) + conv(3, 32) + 4 * conv(32, 32) + conv(32, 64) + 2 * conv(64, 64) + conv(64, 144)
    by_hand += 7 * conv(144, 144) + (144 * 144 + 144) + (144 * 10 + 10)
    assert cnn.count_parameters(build("cnn_b")) == by_hand


def test_the_reports_networks_have_keras_s_parameters():
    hidden, last = 128, 128 * 10 + 10
    base = conv(3, 32) + (15 * 15 * 32 * hidden + hidden) + last
    assert cnn.count_parameters(build("base")) == base == 923_914
    deeper = conv(3, 32) + conv(32, 128) + (6 * 6 * 128 * hidden + hidden) + last
    assert cnn.count_parameters(build("deeper")) == deeper == 629_130
    # Keras counts the running means and variances, too: 924,554, of which 320 are not trained.
    normalised = build("normalised")
    assert cnn.count_parameters(normalised) == base + 2 * 32 + 2 * hidden == 924_554 - 320
    running = [value for name, value in normalised.state_dict().items() if "running" in name]
    assert sum(value.numel() for value in running) == 320


def test_the_reports_networks_follow_keras_s_conventions():
    network = build("normalised")
    norms = [layer for layer in network if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    assert [(norm.num_features, norm.eps, norm.momentum) for norm in norms] == [(32, 1e-3, 0.01), (128, 1e-3, 0.01)]
    assert [type(layer).__name__ for layer in network] == [
        *("Conv2d", "ReLU", "BatchNorm2d", "MaxPool2d", "Flatten", "Linear", "ReLU", "BatchNorm1d", "Linear")
    ]
    assert [layer.p for layer in build("deeper") if isinstance(layer, torch.nn.Dropout)] == [0.25, 0.5]
    for layer in build("deeper"):
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            receptive = layer.weight[0][0].numel() if layer.weight.dim() == 4 else 1
            bound = (6 / (receptive * (layer.weight.shape[0] + layer.weight.shape[1]))) ** 0.5
            assert 0.98 * bound < layer.weight.abs().max() <= bound
            assert not layer.bias.any()


def test_cnn_a_prints_the_sizes_of_table_1():
    sizes = []
    output = torch.zeros(1, 3, 32, 32)
    for layer in build():
        output = layer(output)
        if isinstance(layer, torch.nn.Conv2d | torch.nn.MaxPool2d | torch.nn.AdaptiveAvgPool2d):
            sizes.append(output.shape[-1])
    assert sizes == [32] * 3 + [16] * 5 + [8] + [4] * 4 + [2] * 4 + [1]


def test_the_same_generator_gives_the_same_weights_and_no_global_one_is_drawn_from():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two, other = build(seed=1), build(seed=1), build(seed=2)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one[0].weight, other[0].weight)


def test_batch_norm_is_ready_to_use():
    network = build(batch_norm=True)
    assert torch.isfinite(network.eval()(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))).all()


@pytest.mark.parametrize("name", cnn.CNN)
def test_a_plain_deep_network_learns_from_its_initialisation(name):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(48, 1, 16, 16, generator=generator)
    labels = torch.arange(48) % 3
    images += labels.view(-1, 1, 1, 1) - 1
    network = build(name, in_channels=1, n_classes=3, image_size=(16, 16))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimiser.step()
    assert (network.eval()(images).argmax(1) == labels).float().mean() > 0.95


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'cnn_z' is unknown, allowed are cnn_a, cnn_b"):
        build("cnn_z")


@pytest.mark.parametrize("name", cnn.CNN)
def test_exactly_the_images_that_a_network_cannot_take_are_refused(name):
    for size in range(1, 20):
        try:
            build(name, image_size=(size, 40)).eval()(torch.zeros(1, 3, size, 40))
        except RuntimeError:
            with pytest.raises(ValueError, match=f"{size}x40 are too small for {name}"):
                cnn.check_image_size(name, size, 40)
        else:
            cnn.check_image_size(name, size, 40)
