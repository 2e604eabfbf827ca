"""The image store: one HDF5 file per data set, written once, opened read-only by many processes at once.

Schema 1. Root attributes: format, schema_version, dataset, declaration (JSON), mean, std, digest, created_by (JSON),
complete. Data sets, N images each: images (N, H, W, C) uint8 in chunks of whole images, labels int64, split uint8
(0 train, 1 validation, 2 test), group int32 (-1: none), source (path inside the data set); and class_names,
group_names, skipped, skipped_reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from pydyn.data.listing import PARTS
from pydyn.errors import DataError

FORMAT = "pydyn image store"
SCHEMA_VERSION = 1
CHUNK_BYTES = 2**20

IntArray = NDArray[np.int64]
Images = NDArray[np.uint8]

_PER_IMAGE = {"labels": np.int64, "split": np.uint8, "group": np.int32}
_TEXTS = ("class_names", "group_names", "source", "skipped", "skipped_reason")


class StoreDigest:
    """SHA-256 over everything that a training can depend on: images, labels, split, groups, names, mean and std."""

    def __init__(self) -> None:
        self._images = hashlib.sha256()

    def add(self, images: Images) -> None:
        """Go on with the next images, in row order."""
        self._images.update(np.ascontiguousarray(images).data)

    def finish(self, image_shape: tuple[int, ...], arrays: dict[str, NDArray[Any]], texts: dict[str, list[str]]) -> str:
        """The digest in hexadecimal; `arrays` holds labels, split, group, mean and std."""
        whole = hashlib.sha256()
        head = [
            FORMAT,
            SCHEMA_VERSION,
            image_shape,
            texts["class_names"],
            texts["group_names"],
            self._images.hexdigest(),
        ]
        whole.update(json.dumps(head).encode())
        for name in ("labels", "split", "group", "mean", "std"):
            # Little-endian on every machine.
            values = arrays[name].astype(arrays[name].dtype.newbyteorder("<"))
            whole.update(f"{name} {values.dtype.str} {values.shape}".encode() + values.tobytes())
        return whole.hexdigest()


class StoreWriter:
    """Writes a store: images first, in row order, then everything else at once."""

    def __init__(self, path: Path, n_images: int, image_shape: tuple[int, int, int]) -> None:
        """Room is made for `n_images`; what is not written is cut off in the end."""
        self._file = h5py.File(path, "w", locking=False)
        self._shape = image_shape
        self.chunk_images = max(1, min(n_images, CHUNK_BYTES // int(np.prod(image_shape))))
        self._images = self._file.create_dataset(
            "images",
            shape=(n_images, *image_shape),
            maxshape=(n_images, *image_shape),
            chunks=(self.chunk_images, *image_shape),
            dtype=np.uint8,
        )
        self._digest = StoreDigest()
        self.n_written = 0

    def __enter__(self) -> Self:
        """Nothing to do: the file is open."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._file.close()

    def add(self, images: Images) -> None:
        """Append images (n, H, W, C); whole chunks are quickest."""
        self._images[self.n_written : self.n_written + len(images)] = images
        self._digest.add(images)
        self.n_written += len(images)

    def finish(self, attributes: dict[str, Any], arrays: dict[str, NDArray[Any]], texts: dict[str, list[str]]) -> None:
        """Write all the rest and mark the store complete.

        `attributes`: dataset, declaration, created_by. `arrays`: labels, split, group of the images written, (n,); mean
        and std, (C,). `texts`: class_names, group_names, source, skipped, skipped_reason.
        """
        self._images.resize(self.n_written, axis=0)
        for name, dtype in _PER_IMAGE.items():
            self._file.create_dataset(name, data=arrays[name].astype(dtype))
        # File names need not be Unicode; HDF5 text must be.
        texts = {
            name: [text.encode("utf-8", "backslashreplace").decode() for text in values]
            for name, values in texts.items()
        }
        for name in _TEXTS:
            self._file.create_dataset(name, data=np.array(texts[name], dtype=object), dtype=h5py.string_dtype())
        digest = self._digest.finish(self._shape, arrays, texts)
        final = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "digest": digest, "complete": True}
        self._file.attrs.update({**attributes, "mean": arrays["mean"], "std": arrays["std"], **final})


class ImageStore:
    """A store opened for reading; use as a context manager. Everything but the images is small and held in memory."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        """Use `ImageStore.open`."""
        self.path = path
        self._file = file
        self._images = file["images"]
        self.name: str = file.attrs["dataset"]
        self.declaration: dict[str, Any] = json.loads(file.attrs["declaration"])
        """The section of the configuration that the store was prepared from."""
        self.created_by: dict[str, str] = json.loads(file.attrs["created_by"])
        """Versions of the libraries that wrote it."""
        self.digest: str = file.attrs["digest"]
        self.mean: NDArray[np.float64] = file.attrs["mean"]
        """(C,), of the train part, in units of 0 to 1."""
        self.std: NDArray[np.float64] = file.attrs["std"]
        """(C,), population standard deviation of the train part, in units of 0 to 1."""
        self.class_names = tuple(_texts(file, "class_names"))
        self.group_names = tuple(_texts(file, "group_names"))
        self.labels: IntArray = file["labels"][:]
        """(N,), 0 to n_classes - 1."""
        self.split: NDArray[np.uint8] = file["split"][:]
        """(N,), positions in ("train", "validation", "test")."""
        self.group: NDArray[np.int32] = file["group"][:]
        """(N,), positions in `group_names`; -1 where there is no group."""
        self.image_shape: tuple[int, int, int] = tuple(self._images.shape[1:])
        """(H, W, C)."""
        self.n_images: int = self._images.shape[0]

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a store and check all of it but the images' bytes.

        Raises DataError if the file is missing, truncated, incomplete, no store, of another schema or at odds with
        itself.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"image store {path} does not exist; prepare the data set first")
        try:
            file = h5py.File(path, "r", locking=False)
        except OSError as error:
            reason = "is truncated or damaged" if h5py.is_hdf5(path) else "is no HDF5 file"
            raise DataError(
                f"image store {path} {reason} ({error}); delete it and prepare the data set again"
            ) from error
        try:
            _check_schema(path, file)
            return cls(path, file)
        except (DataError, MemoryError):
            file.close()
            raise
        except Exception as error:  # on a damaged file HDF5 raises almost anything
            file.close()
            raise _unreadable(str(path), error) from error

    def __enter__(self) -> Self:
        """Nothing to do: the file is open."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; images can no longer be read."""
        self._file.close()

    @property
    def skipped(self) -> dict[str, str]:
        """Paths of the images that could not be decoded and were left out, and why."""
        return dict(zip(_texts(self._file, "skipped"), _texts(self._file, "skipped_reason"), strict=True))

    def sources(self, indices: IntArray | None = None) -> list[str]:
        """What the images at these rows (all by default) are called inside the data set."""
        names = _texts(self._file, "source")
        return names if indices is None else [names[index] for index in indices]

    def indices(self, *splits: str) -> IntArray:
        """Ascending rows of the images in these parts: `train`, `validation`, `test`; DataError for another name."""
        if unknown := sorted(set(splits) - set(PARTS)):
            raise DataError(f"image store {self.path} has no part {unknown}; parts are {', '.join(PARTS)}")
        return np.flatnonzero(np.isin(self.split, [PARTS.index(split) for split in splits])).astype(np.int64)

    def images(self, indices: IntArray | None = None) -> Images:
        """The images at these rows (all by default) in the order asked for: (n, H, W, C) uint8.

        Every chunk is read at most once, so ascending rows cost what they weigh. Raises IndexError beyond the last row.
        """
        if indices is None:
            everything: Images = self._images[:]
            return everything
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.n_images:
            raise IndexError(f"image store {self.path} has rows 0 to {self.n_images - 1}")
        result = np.empty((len(indices), *self.image_shape), dtype=np.uint8)
        order = np.argsort(indices, kind="stable")
        ascending = indices[order]
        chunk_of = ascending // self._images.chunks[0]
        for members in np.split(np.arange(len(indices)), np.flatnonzero(np.diff(chunk_of)) + 1):
            if len(members):
                rows = ascending[members]
                block = self._images[rows[0] : rows[-1] + 1]
                result[order[members]] = block[rows - rows[0]]
        return result

    def verify(self) -> None:
        """Read everything and compare with the digest. Raises DataError if they differ."""
        digest = StoreDigest()
        try:
            for block in self._blocks():
                digest.add(block)
        except OSError as error:
            raise DataError(
                f"image store {self.path} is damaged ({error}); delete it and prepare the data set again"
            ) from error
        arrays: dict[str, NDArray[Any]] = {
            "labels": self.labels,
            "split": self.split,
            "group": self.group,
            "mean": self.mean,
            "std": self.std,
        }
        texts = {"class_names": list(self.class_names), "group_names": list(self.group_names)}
        if digest.finish(self.image_shape, arrays, texts) != self.digest:
            raise DataError(
                f"image store {self.path} differs from its digest; delete it and prepare the data set again"
            )

    def _blocks(self) -> Iterator[Images]:
        step = self._images.chunks[0]
        for start in range(0, self.n_images, step):
            yield self._images[start : start + step]


def read_declaration(path: Path) -> str | None:
    """The section of the configuration (JSON) that a store was prepared from; None if there is no store that tells."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return str(file.attrs["declaration"])
    except (OSError, RuntimeError, KeyError):
        return None


def _texts(file: h5py.File, name: str) -> list[str]:
    try:
        return [str(text) for text in file[name].asstr()[:]]
    except Exception as error:
        raise _unreadable(file.filename, error) from error


def _unreadable(path: str, error: Exception) -> DataError:
    return DataError(f"image store {path} cannot be read ({error}); delete it and prepare the data set again")


def _check_schema(path: Path, file: h5py.File) -> None:
    again = "delete it and prepare the data set again"
    if file.attrs.get("format") != FORMAT:
        raise DataError(f"{path} is an HDF5 file but no image store of pydyn; choose another path, or {again}")
    version = file.attrs["schema_version"]
    if version != SCHEMA_VERSION:
        advice = "upgrade pydyn" if version > SCHEMA_VERSION else again
        raise DataError(f"image store {path} has schema {version}, this pydyn reads {SCHEMA_VERSION}; {advice}")
    if not file.attrs.get("complete", False):
        raise DataError(f"image store {path} is incomplete; {again}")
    images = file["images"]
    if images.ndim != 4 or images.dtype != np.uint8 or images.chunks is None or images.shape[3] not in (1, 3):
        raise DataError(f"image store {path} holds images of shape {images.shape}, {images.dtype}; {again}")
    sizes = {name: file[name].shape for name in (*_PER_IMAGE, "source")}
    if set(sizes.values()) != {images.shape[:1]}:
        raise DataError(f"image store {path} holds {images.shape[0]} images but {sizes}; {again}")
    if file.attrs["mean"].shape != images.shape[3:] or file.attrs["std"].shape != images.shape[3:]:
        raise DataError(f"image store {path} has a mean or std that does not fit {images.shape[3]} channels; {again}")
    bounds = {
        "labels": (0, len(file["class_names"])),
        "split": (0, len(PARTS)),
        "group": (-1, len(file["group_names"])),
    }
    for name, (lower, upper) in bounds.items():
        values = file[name][:]
        if values.dtype != _PER_IMAGE[name] or not np.all((lower <= values) & (values < upper)):
            kind = _PER_IMAGE[name].__name__
            raise DataError(f"image store {path} holds {name} that are not {kind} from {lower} to {upper - 1}; {again}")
