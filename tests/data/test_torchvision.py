import numpy as np
import pytest
from PIL import Image


class StandIn:
    """What torchvision's data sets have in common."""

    classes = ("zero", "one")

    def __init__(self, root, train, download):
        self.targets = [index % 2 for index in range(20 if train else 10)]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return Image.new("L", (28, 28), index), self.targets[index]


class StandInSvhn(StandIn):
    """SVHN's own names for the same things."""

    classes = None

    def __init__(self, root, split, download):
        super().__init__(root, split == "train", download)
        self.labels = np.array(self.targets)
        del self.targets

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return Image.new("RGB", (32, 32), (index, 0, 0)), int(self.labels[index])


@pytest.mark.parametrize(
    ("name", "stand_in", "classes", "shape"),
    [("MNIST", StandIn, ("zero", "one"), (28, 28, 1)), ("SVHN", StandInSvhn, ("0", "1"), (32, 32, 3))],
)
def test_torchvision(prepared, monkeypatch, name, stand_in, classes, shape):
    monkeypatch.setattr(f"torchvision.datasets.{name}", stand_in)
    store = prepared(source="torchvision", name=name, limit={"train": 12})
    assert store.class_names == classes
    assert store.image_shape == shape
    assert len(store.indices("train", "validation")) == 12
    assert store.sources()[-1] == "test:9"
    assert store.images()[-1].flat[0] == 9


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("File not found or corrupted.")])
def test_failed_downloads_say_what_to_do(refused, monkeypatch, error):
    def fail(**options):
        raise error

    monkeypatch.setattr("torchvision.datasets.MNIST", fail)
    message = refused(source="torchvision", name="MNIST")
    assert "torchvision cannot provide MNIST in " in message
    assert f"({error}); check the connection, or put its files there, or use `source: archive`" in message
