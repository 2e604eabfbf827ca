"""The code blocks of README and docs/library.md run as they stand."""

import pkgutil
import re
from pathlib import Path

import pytest
import torch

from pydyn.config.main import load
from pydyn.ops import GreyImages
from pydyn.training.sampler import DynamicSubsetSampler

README = Path(__file__).parents[1] / "README.md"
LIBRARY = README.parent / "docs" / "library.md"


def blocks(mark, language="python"):
    found = re.findall(rf"```{language}\n(.*?)```", README.read_text() + LIBRARY.read_text(), re.DOTALL)
    return [block for block in found if mark in block]


def test_configurations_to_lay_over_config_yaml_are_allowed_and_flatter_nothing(tmp_path):
    own, classifier = blocks("datasets:", "yaml")
    for block in (own, classifier):
        (tmp_path / "mine.yaml").write_text(block)
        config = load(README.with_name("config.yaml"), tmp_path / "mine.yaml")
        assert "mine" in config.datasets
        if block == own:
            assert config.dynamic.dataset == "mine" and config.dynamic.protocols == ["holdout"]


def test_the_samplers_examples_run_as_they_stand_and_train_what_the_strategy_chose():
    # Here and not above: it takes seconds to import, and only this needs it.
    import lightning

    plain, in_lightning = blocks("DynamicSubsetSampler")[0], blocks("import lightning")[0]
    assert max(len(block.strip().splitlines()) for block in (plain, in_lightning)) < 15

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 2)

        def training_step(self, batch, _):
            trained[-1] += batch[0].flatten().tolist()
            return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def validation_step(self, batch, _):
            self.log("accuracy", 0.5)

        def on_validation_epoch_end(self):
            trained.append([])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    dataset = torch.utils.data.TensorDataset(torch.arange(40.0)[:, None], torch.arange(40) % 2)
    accuracies = iter([0.1, 0.5, 0.5, 0.5])
    seen = []
    names = {
        "dataset": dataset,
        "epochs": 4,
        "train_step": lambda images, labels: seen.append(len(images)),
        "evaluate": lambda: next(accuracies),
    }
    exec(plain, names)
    assert seen == [20] * 4

    trained = [[]]
    names["model"], names["validation_loader"] = Model(), torch.utils.data.DataLoader(dataset, 40)
    Trainer = lightning.Trainer
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    names["sampler"] = sampler = names["DynamicSubsetSampler"](
        names["Dynamic"](alpha=0.5, beta=0.7), 40, epochs=4, seed=1
    )
    names["loader"] = torch.utils.data.DataLoader(dataset, 8, sampler=sampler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightning, "Trainer", lambda **given: Trainer(**given, **quiet, accelerator="cpu"))
        exec(in_lightning, names)
    epochs = [sorted(int(image) for image in epoch) for epoch in trained if epoch]
    expected = names["DynamicSubsetSampler"](names["Dynamic"](alpha=0.5, beta=0.7), 40, epochs=4, seed=1)
    assert len(epochs) == 4
    for epoch in epochs:
        assert epoch == sorted(expected)
        expected.update(accuracy=0.5)
    assert epochs[0] == epochs[1] != epochs[2] != epochs[3]
    # A validation apart from training ends no epoch.
    names["trainer"].validate(names["model"], names["validation_loader"], verbose=False)
    assert list(sampler) == list(expected)


def test_the_example_of_a_strategy_that_needs_losses_runs_as_it_stands():
    (example,) = blocks("InfoBatch(")
    dataset = torch.utils.data.TensorDataset(torch.arange(300.0)[:, None] / 300, torch.arange(300) // 150)
    model = torch.nn.Linear(1, 2)
    names = {
        "torch": torch,
        "DataLoader": torch.utils.data.DataLoader,
        "DynamicSubsetSampler": DynamicSubsetSampler,
        "dataset": dataset,
        "epochs": 4,
        "model": model,
        "optimiser": torch.optim.SGD(model.parameters(), 0.1),
        "evaluate": lambda: lengths.append(len(names["sampler"])) or 0.5,
    }
    lengths: list[int] = []
    exec(example, names)
    assert lengths[0] == lengths[3] == 300
    assert max(lengths[1:3]) < 300


def test_what_the_page_of_the_library_names_is_there():
    text = LIBRARY.read_text()
    for name in re.findall(r"`(pydyn(?:\.\w+)+)", text):
        assert pkgutil.resolve_name(name) is not None
    _, _, table = text.partition("| module of `pydyn.sensitivity` |")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    assert len(rows) == 4
    for module, functions in rows:
        for function in re.findall(r"`(\w+)", functions):
            assert callable(pkgutil.resolve_name(f"pydyn.sensitivity.{module}:{function}"))


def test_the_example_of_the_operations_runs_as_it_stands():
    (example,) = blocks("import ops")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8 * 8 * 3, 5))
    names = {
        "images": torch.randint(0, 256, (50, 8, 8, 3), dtype=torch.uint8),
        "labels": torch.randint(0, 5, (50,)),
        "index": torch.tensor([3, 1, 4, 1, 5]),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
        "epoch": 3,
        "model": model,
    }
    exec(example, names)
    assert names["terms"].margins.shape == (5,)
    assert model[1].weight.grad.abs().sum() > 0


def test_the_example_of_the_heads_runs_as_it_stands():
    (example,) = blocks("train_heads")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    names = {
        "features": torch.randn(90, 16, generator=generator) + torch.nn.functional.one_hot(labels, 16) * 2,
        "labels": labels,
        "train": torch.arange(60),
        "validation": torch.arange(60, 90),
        "new_features": torch.zeros(2, 16),
    }
    exec(example, names)
    assert len(names["results"]) == 12
    assert names["best"].best.balanced_accuracy > 0.5
    assert names["logits"].shape == (2, 3)


def test_the_example_of_populations_runs_as_it_stands():
    (example,) = blocks("prune_greedily")
    pixels = torch.randint(0, 256, (40, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = GreyImages(pixels, torch.arange(40) % 3)
    names = {"train": images, "validation": images, "epochs": 2}
    exec(example, names)
    assert names["row"].validation_accuracy.shape == (20,)
    assert names["pruning"].network.architecture.filters == (1, 1)
