"""Data sets as the configuration declares them: a source, how it is split, and what is kept of it."""

import os
import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from pydyn.config.base import Count, Section

Side = Annotated[int, Field(ge=8, le=4096)]
Fraction = Annotated[float, Field(gt=0, lt=1)]

# Training images, test images and classes of torchvision's data sets, so that a subset larger than the pool, or a limit that they
# cannot meet, is refused before a download.
TORCHVISION_SIZES = {
    "CIFAR10": (50_000, 10_000, 10),
    "CIFAR100": (50_000, 10_000, 100),
    "MNIST": (60_000, 10_000, 10),
    "FashionMNIST": (60_000, 10_000, 10),
    "KMNIST": (60_000, 10_000, 10),
    "SVHN": (73_257, 26_032, 10),
}
SHAPES_CLASSES = 3


class Told(Section):
    """Where something is told of each image: in a column of a manifest, or in the image's path."""

    named: ClassVar[str]
    """What the pattern's named group is called."""

    manifest: str | None = None
    """A CSV file in the data set, with a column `file` of paths relative to the data set's top folder."""
    column: str | None = None
    """The manifest's column that tells it."""
    pattern: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.manifest is None) == (self.pattern is None):
            raise ValueError("needs either `manifest` and `column`, or `pattern`")
        if self.manifest is not None and (Path(self.manifest).is_absolute() or ".." in Path(self.manifest).parts):
            raise ValueError(f"manifest = {self.manifest!r} must be a path inside the data set")
        if (self.manifest is None) != (self.column is None):
            raise ValueError("`manifest` and `column` go together")
        if self.pattern is not None:
            try:
                named = re.compile(self.pattern).groupindex
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"`pattern` is no regular expression: {error}") from None
            if self.named not in named:
                raise ValueError(f"`pattern` needs a named group: (?P<{self.named}>...)")
        return self


class Labels(Told):
    """What tells the class of each image, where folders do not: images may then lie in any folder of the data set."""

    named: ClassVar[str] = "label"

    pattern: str | None = None
    """Or a regular expression over the path inside the data set, with a named group: `(?P<label>...)`."""


class Group(Told):
    """What tells which images belong together (one patient, one block of neighbouring slices): never split apart."""

    named: ClassVar[str] = "group"

    pattern: str | None = None
    """Or a regular expression over the path inside the data set, with a named group: `(?P<group>...)`."""
    block: Count | None = None
    """If the column holds whole numbers: this many neighbouring numbers of one class make a group."""

    @model_validator(mode="after")
    def _blocks_of_numbers(self) -> Self:
        if self.block is not None and self.manifest is None:
            raise ValueError("`block` goes with `manifest` and `column`")
        return self


class Split(Section):
    """How images are divided into training, validation and test images."""

    method: Literal["given", "stratified", "group"]
    """`given`: the source has train and test parts. `stratified`: by class. `group`: by class, groups kept whole."""
    test: Fraction | None = None
    """Share of all images in the test set (stratified and group)."""
    validation: Fraction = 0.1
    """Share of the training images held out of the pool by the protocol `holdout`; the protocol `paper` trains on them."""
    seed: Annotated[int, Field(ge=0)] = 0
    group: Group | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.test is None) != (self.method == "given"):
            raise ValueError(
                f"`test` is {'not allowed' if self.method == 'given' else 'needed'} with method: {self.method}"
            )
        if (self.group is None) == (self.method == "group"):
            raise ValueError("`group` goes with method: group, and method: group needs it")
        return self


class Limit(Section):
    """At most this many images, drawn by class with the split's seed after the test set is set apart."""

    train: Count | None = None
    """Training images, those held out for validation included."""
    test: Count | None = None


class Dataset(Section):
    """What every source has in common."""

    split: Split
    limit: Limit = Limit()


class ShapesDataset(Dataset):
    """Generated figures: ellipse, rectangle, triangle, in grey. Same declaration, same bytes, on every machine."""

    source: Literal["shapes"]
    split: Split = Split(method="given")
    train: Count = 6000
    test: Count = 3000
    image_size: Annotated[int, Field(ge=8, le=512)] = 28
    size: tuple[Fraction, Fraction] = (0.3, 0.9)
    """Radius or half side, in units of half the image: drawn uniformly between the two."""
    aspect: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest height over width, drawn uniformly from this to 1; 1 gives circles, squares and equilateral triangles."""
    shear: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Slant each figure: x grows by up to this times y, to either side."""
    rotate: bool = False
    """Turn each figure about its centroid by a random angle."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Move the centroid by up to this much, in units of half the image, along each axis."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Standard deviation of Gaussian noise, in units of the grey range."""
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("size")
    @classmethod
    def _ordered(cls, size: tuple[float, float]) -> tuple[float, float]:
        if size[0] > size[1]:
            raise ValueError("the first size must not exceed the second")
        return size

    @model_validator(mode="after")
    def _given(self) -> Self:
        if self.split.method != "given":
            raise ValueError("`split.method` must be `given`: `train` and `test` are counts of generated images")
        return self


class FileDataset(Dataset):
    """What folders and archives of images have in common."""

    path: str
    """Relative to `data_root`."""
    labels: Labels | None = None
    """What tells classes. None: the folders that images lie in."""
    image_size: Side | tuple[Side, Side] | None = None
    """Resize to a square, or to (height, width). None: all images must have one size already."""
    channels: Literal[1, 3] | None = None
    """Grey or RGB. None: as the first image is."""
    skip_unreadable: bool = False
    """Leave out images that cannot be decoded and record them in the store, instead of refusing the data set."""

    def resolve(self, data_root: Path) -> Path:
        """The path of the folder or archive."""
        return data_root / os.path.expanduser(self.path)  # noqa: PTH111 (an unknown ~user is a missing file, not a crash)


class FolderDataset(FileDataset):
    """Class folders: `class/name.jpg`, or `train/class/name.jpg` and `test/class/name.jpg` with a given split.

    With `labels`, classes need no folders; with a given split, images then lie anywhere in `train/` and `test/`.
    """

    source: Literal["folder"]


class ArchiveDataset(FileDataset):
    """A tar (plain, gz, xz, bz2) or zip archive of what `folder` takes as files, read without unpacking it."""

    source: Literal["archive"]


class TorchvisionDataset(Dataset):
    """A data set that torchvision downloads and verifies by digest."""

    source: Literal["torchvision"]
    name: Literal["CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "SVHN"]
    split: Split = Split(method="given")
    download: bool = True

    @model_validator(mode="after")
    def _given(self) -> Self:
        if self.split.method != "given":
            raise ValueError("`split.method` must be `given`: torchvision's data sets come with train and test parts")
        return self


AnyDataset = Annotated[
    ShapesDataset | FolderDataset | ArchiveDataset | TorchvisionDataset,
    Field(discriminator="source"),
]
