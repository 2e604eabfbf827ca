"""Samplers in Lightning: epochs of other lengths, weights in the loss, checkpoints."""

from itertools import pairwise

import pytest
import torch

from pydyn.selection.dynamic import Dynamic
from pydyn.selection.infobatch import InfoBatch
from pydyn.training.sampler import DynamicSubsetSampler

# It takes seconds to import: only this file needs it.
lightning = pytest.importorskip("lightning")

EPOCHS, BATCH_SIZE, N_IMAGES = 8, 8, 60
IMAGES = torch.randn(N_IMAGES, 5, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES.sum(dim=1) > 0).long()
DATASET = torch.utils.data.TensorDataset(IMAGES, LABELS, torch.arange(N_IMAGES))


class Model(lightning.LightningModule):
    """A network that weighs its losses as the sampler says, and keeps them for it."""

    def __init__(self, sampler):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(5, 2)
        self.sampler = sampler
        self.trained = []

    def on_train_epoch_start(self):
        self.weights = self.sampler.weights().split(BATCH_SIZE)
        self.losses = []
        self.trained.append([])

    def training_step(self, batch, position):
        images, labels, numbers = batch
        self.trained[-1] += numbers.tolist()
        losses = torch.nn.functional.cross_entropy(self.layer(images), labels, reduction="none")
        self.losses.append(losses.detach())
        return (losses * self.weights[position]).mean()

    def validation_step(self, batch, _):
        self.log("accuracy", (self.layer(batch[0]).argmax(dim=1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.5)


class Resample(lightning.Callback):
    """The callback of README, with the losses that InfoBatch needs and the sampler's state."""

    def __init__(self, sampler):
        self.sampler = sampler

    def on_validation_epoch_end(self, trainer, model):
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            accuracy = float(trainer.callback_metrics["accuracy"])
            self.sampler.update(accuracy, losses=torch.cat(model.losses))

    def state_dict(self):
        return self.sampler.state_dict()

    def load_state_dict(self, state):
        self.sampler.load_state_dict(state)


def new_sampler(seed=3):
    return DynamicSubsetSampler(InfoBatch(), N_IMAGES, epochs=EPOCHS, seed=seed)


def fit(folder, epochs, checkpoint=None, seed=3):
    """Train up to an epoch, from a checkpoint or from nothing: the model and its last checkpoint."""
    sampler = new_sampler(seed)
    model = Model(sampler)
    last = lightning.pytorch.callbacks.ModelCheckpoint(folder, save_last=True)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[Resample(sampler), last],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = torch.utils.data.DataLoader(DATASET, BATCH_SIZE, sampler=sampler)
    trainer.fit(model, loader, torch.utils.data.DataLoader(DATASET, N_IMAGES), ckpt_path=checkpoint)
    return model, folder / "last.ckpt"


def plain_loop(weighted):
    """The same training without Lightning: its images by epoch, and its network."""
    sampler = new_sampler()
    layer = Model(sampler).layer
    optimiser = torch.optim.SGD(layer.parameters(), 0.5)
    epochs = []
    for _ in range(EPOCHS):
        epochs.append(list(sampler))
        losses = []
        weights = sampler.weights() if weighted else torch.ones(len(sampler))
        for batch, weight in zip(torch.tensor(epochs[-1]).split(BATCH_SIZE), weights.split(BATCH_SIZE), strict=True):
            each = torch.nn.functional.cross_entropy(layer(IMAGES[batch]), LABELS[batch], reduction="none")
            losses.append(each.detach())
            optimiser.zero_grad()
            (each * weight).mean().backward()
            optimiser.step()
        with torch.no_grad():
            accuracy = (layer(IMAGES).argmax(dim=1) == LABELS).float().mean()
        sampler.update(float(accuracy), losses=torch.cat(losses))
    return epochs, layer


def test_weights_reach_the_loss_and_epochs_of_other_lengths_are_whole(tmp_path):
    model, _ = fit(tmp_path, EPOCHS)
    epochs, layer = plain_loop(weighted=True)
    assert model.trained == epochs
    lengths = [len(epoch) for epoch in epochs]
    # All images at first, for lack of losses, and at the end.
    assert lengths[0] == lengths[-1] == N_IMAGES > max(lengths[1:-1])
    assert torch.equal(model.layer.weight, layer.weight)
    assert not torch.allclose(layer.weight, plain_loop(weighted=False)[1].weight)


def test_a_sampler_survives_a_checkpoint(tmp_path):
    whole, _ = fit(tmp_path / "whole", EPOCHS)
    first, checkpoint = fit(tmp_path / "parts", 3)
    # Another seed: all that the rest depends on comes from the checkpoint.
    rest, _ = fit(tmp_path / "parts", EPOCHS, checkpoint, seed=4)
    assert first.trained + rest.trained == whole.trained
    assert all(before != after for before, after in pairwise(whole.trained))
    assert torch.equal(rest.layer.weight, whole.layer.weight)


def test_lightning_shares_each_epoch_out_among_processes():
    # The wrapper that it puts around a sampler, in the place of two processes whose samplers hear the same.
    samplers = [DynamicSubsetSampler(Dynamic(alpha=0.5, delta=1.0), N_IMAGES, epochs=EPOCHS, seed=3) for _ in range(2)]
    shares = [
        lightning.fabric.utilities.distributed.DistributedSamplerWrapper(sampler, num_replicas=2, rank=rank)
        for rank, sampler in enumerate(samplers)
    ]
    seen = []
    for epoch in range(EPOCHS):
        for share, sampler in zip(shares, samplers, strict=True):
            share.set_epoch(epoch)
            seen.append(list(share))
            assert len(seen[-1]) == len(sampler) // 2
        assert sorted(seen[-2] + seen[-1]) == sorted(samplers[0])
        for sampler in samplers:
            sampler.update(0.5)
    assert set(seen[0] + seen[1]) != set(seen[-2] + seen[-1])
