"""Adapted statistics against a hand computation; weights to the bit."""

import pytest
import torch
from torch import nn

from pydyn.features.adaptation import adapt, statistics
from pydyn.models.settings import AdaptationSetting


def batches(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [3 + 2 * torch.randn(5, 3, 12, 12, generator=draw) for _ in range(count)]


def test_statistics_are_those_of_a_hand_computation(network):
    images = batches(4)
    first, norm = network[0], network[1]
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    for batch in images:
        seen = first(batch).detach().transpose(0, 1).flatten(1)
        mean = 0.75 * mean + 0.25 * seen.mean(1)
        variance = 0.75 * variance + 0.25 * seen.var(1, unbiased=True)
    done = adapt(network, images, AdaptationSetting(momentum=0.25, threshold=0.0, max_batches=10))
    assert len(done.changes) == 4
    assert done.stopped == "cap"
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)


def test_changes_are_of_all_running_means_together(network):
    def means():
        return torch.cat([network[1].running_mean, network[5].running_mean]).double()

    expected, images = [], batches(3)
    for batch in images:
        before = means()
        done = adapt(network, [batch], AdaptationSetting(threshold=0.0))
        expected.append(float((means() - before).norm() / before.norm()))
        assert done.changes[-1] == expected[-1]
    assert expected[0] == float("inf") > expected[1] > 0  # nothing was known before the first


def test_weights_stay_to_the_bit_and_so_do_modes_and_momenta(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    adapt(network.train(), batches(3), AdaptationSetting())
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    moved = {f"{layer}.{what}" for layer in (1, 5) for what in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed == moved
    assert set(statistics(network)) == {name for name in moved if "tracked" not in name}
    assert not any(module.training for module in network.modules())
    assert [network[1].momentum, network[5].momentum] == [0.1, 0.1]


def test_dropout_is_off_and_nothing_global_is_drawn(network):
    state = torch.random.get_rng_state()
    adapt(network, batches(2), AdaptationSetting())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_ends_at_the_first_change_below_the_threshold(network):
    free = adapt(network, batches(12), AdaptationSetting(threshold=0.0)).changes
    # Fresh statistics, the same batches again, with a threshold between two changes.
    for layer in (network[1], network[5]):
        layer.reset_running_stats()
    position = next(i for i in range(1, 12) if free[i] < min(free[:i]))
    threshold = (free[position] + min(free[:position])) / 2
    drawn = []

    def watched():
        for batch in batches(12):
            drawn.append(batch)
            yield batch

    done = adapt(network, watched(), AdaptationSetting(threshold=threshold))
    assert done.stopped == "threshold"
    assert done.changes == free[: position + 1]
    assert len(drawn) == position + 1


def test_without_a_momentum_statistics_are_the_mean_over_the_batches(network):
    images = batches(4)
    network[1].running_mean.fill_(1e4)  # of the old domain, of which nothing may be left
    network[1].running_var.fill_(1e8)
    network[1].num_batches_tracked.fill_(100_000)
    done = adapt(network, images, AdaptationSetting(momentum=None, threshold=0.0))
    seen = [network[0](batch).detach().transpose(0, 1).flatten(1) for batch in images]
    torch.testing.assert_close(network[1].running_mean, torch.stack([one.mean(1) for one in seen]).mean(0))
    torch.testing.assert_close(network[1].running_var, torch.stack([one.var(1, unbiased=True) for one in seen]).mean(0))
    assert len(done.changes) == 4


def test_without_a_momentum_alike_batches_end_it_soon(network):
    (images,) = batches(1)
    setting = AdaptationSetting(momentum=None)
    done = adapt(network, [images] * setting.max_batches, setting)
    assert (len(done.changes), done.stopped) == (2, "threshold")


@pytest.mark.parametrize(("momentum", "share"), [(None, 1.0), (0.1, 0.271), (1.0, 1.0)])
def test_the_share_of_the_statistics_that_is_of_the_new_images(network, momentum, share):
    setting = AdaptationSetting(momentum=momentum, threshold=0.0)
    (images,) = batches(1)
    network[1].running_mean.fill_(7.0)
    adapt(network, [images] * 3, setting)
    now = network[0](images).detach().transpose(0, 1).flatten(1).mean(1)
    assert setting.share_adapted(3) == pytest.approx(share)
    torch.testing.assert_close(network[1].running_mean, share * now + (1 - share) * 7)


def test_at_the_defaults_more_than_half_of_the_statistics_are_new(network):
    """At a threshold of 0.01, the default once, a shift of a tenth ended it after one batch, with nine tenths of it left."""
    (images,) = batches(1)
    adapt(network, [images], AdaptationSetting(momentum=1.0))
    norms = [network[1], network[5]]
    true = torch.cat([norm.running_mean for norm in norms])
    shift = torch.randn(true.shape, generator=torch.Generator().manual_seed(1))
    shift *= 0.1 * true.norm() / shift.norm()
    for norm, part in zip(norms, shift.split([len(norm.running_mean) for norm in norms]), strict=True):
        norm.running_mean += part
    setting = AdaptationSetting()
    done = adapt(network, [images] * setting.max_batches, setting)
    assert done.stopped == "threshold"
    assert float((torch.cat([norm.running_mean for norm in norms]) - true).norm() / true.norm()) < 0.01
    assert setting.share_adapted(len(done.changes)) > 0.5


def test_ends_at_the_cap_without_drawing_another_batch(network):
    drawn = iter(batches(5))
    done = adapt(network, drawn, AdaptationSetting(threshold=0.0, max_batches=3))
    assert (len(done.changes), done.stopped, len(list(drawn))) == (3, "cap", 2)


def test_a_network_without_batch_normalisation_passes_through():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    done = adapt(network, batches(2), AdaptationSetting())
    assert (done.changes, done.stopped) == ((), "no batch normalisation")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert statistics(network) == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"momentum": 0.0}, "momentum = 0.0 must be above 0 and at most 1"),
        ({"threshold": -1.0}, "threshold = -1.0 must be at least 0"),
        ({"max_batches": 0}, "max_batches = 0 must be from 1 to 100,000"),
        ({"batch_size": 0}, "batch_size = 0 must be from 1 to 100,000"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AdaptationSetting(**values)
