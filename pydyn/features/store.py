"""The feature store: one HDF5 file per backbone, data set and adaptation, joined of shards without copying.

Schema 2. Root attributes: format, schema_version, description (JSON: what the features are), digest, shards (JSON: file name,
rows and digest of each), measured (JSON: what each shard took), complete. Data sets, N images: features (N, D) float16 or
float32, a virtual data set over the shards beside the file; labels int64, group int32 (-1: none), split uint8, source (path
inside the data set), class_names, group_names. Row i of the features is image i of the image store.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from pydyn.data.store import ImageStore
from pydyn.errors import DataError
from pydyn.files import whole_or_absent

FORMAT, SHARD_FORMAT = "pydyn feature store", "pydyn features, a shard"
SCHEMA_VERSION = 2
CHUNK_BYTES = 2**20
BLOCK_ROWS = 4096

FEATURES, ADAPTED = "features.h5", "adapted.safetensors"
"""What the files of a set of features are called, its shards apart."""

Features = NDArray[np.float16] | NDArray[np.float32]


def shard_name(shard: int, n_shards: int) -> str:
    """A shard's file, counted from 0."""
    return f"shard-{shard}-of-{n_shards}.h5"


def shard_rows(n_images: int, shard: int, n_shards: int) -> range:
    """The rows of one of several shards of about equal size, counted from 0. Raises ValueError for a shard that is not."""
    if not 0 <= shard < n_shards:
        raise ValueError(f"shard = {shard} must be from 0 to {n_shards - 1}")
    return range(n_images * shard // n_shards, n_images * (shard + 1) // n_shards)


class ShardWriter:
    """Writes a shard, block after block."""

    def __init__(self, path: Path, rows: range, n_features: int, dtype: str) -> None:
        self._file = h5py.File(path, "w", locking=False)
        chunk = max(1, min(len(rows), CHUNK_BYTES // (n_features * np.dtype(dtype).itemsize)))
        shape = (len(rows), n_features)
        self._features = self._file.create_dataset("features", shape, dtype, chunks=(chunk, n_features))
        self._rows = rows
        self._digest = hashlib.sha256()
        self._written = 0

    def __enter__(self) -> Self:
        """Nothing to do: the file is open."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._file.close()

    def add(self, features: Features) -> None:
        """Append features (n, D)."""
        self._features[self._written : self._written + len(features)] = features
        self._digest.update(np.ascontiguousarray(features).data)
        self._written += len(features)

    def finish(self, description: Mapping[str, Any], measured: dict[str, Any]) -> None:
        """Mark the shard complete."""
        if self._written != len(self._rows):
            raise ValueError(f"{self._written} of {len(self._rows)} rows were written")
        self._file.attrs.update(
            {
                "format": SHARD_FORMAT,
                "schema_version": SCHEMA_VERSION,
                "description": json.dumps(description, sort_keys=True),
                "measured": json.dumps(measured),
                "first_row": self._rows.start,
                "digest": self._digest.hexdigest(),
                "complete": True,
            }
        )


@dataclass(frozen=True)
class _Shard:
    path: Path
    first_row: int
    n_rows: int
    n_features: int
    dtype: np.dtype[Any]
    description: str
    measured: dict[str, Any]
    digest: str


def _read_shard(path: Path) -> _Shard:
    again = "delete it and extract again"
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("format") != SHARD_FORMAT or not file.attrs.get("complete", False):
                raise DataError(f"{path} is no complete shard of features; {again}")
            features = file["features"]
            n_rows, n_features = features.shape
            return _Shard(
                path,
                int(file.attrs["first_row"]),
                n_rows,
                n_features,
                features.dtype,
                str(file.attrs["description"]),
                json.loads(file.attrs["measured"]),
                str(file.attrs["digest"]),
            )
    except FileNotFoundError:
        raise DataError(f"shard of features {path} is missing; extract it again") from None
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"shard of features {path} cannot be read ({error}); {again}") from None


def join_shards(images: Path, output: Path, n_shards: int) -> None:
    """Join all shards that lie beside `output`, of the images in the store `images`. Raises DataError as `join` does."""
    with ImageStore.open(images) as store:
        join([output.parent / shard_name(shard, n_shards) for shard in range(n_shards)], store, output)


def join(paths: Sequence[Path], images: ImageStore, output: Path) -> None:
    """Join shards to a feature store, without copying them: they must stay where they are, in one folder with the store.

    Args:
        paths: all shards, in any order.
        images: the image store that the features are of.
        output: the feature store to write.

    Raises DataError if the shards are not all of the same features, or are not all rows of the image store.
    """
    shards = sorted(map(_read_shard, paths), key=lambda shard: shard.first_row)
    first = shards[0]
    for shard in shards:
        alike = (shard.description, shard.n_features, shard.dtype) == (first.description, first.n_features, first.dtype)
        if not alike:
            raise DataError(f"{shard.path} and {first.path} hold different features; delete both and extract again")
        if shard.path.parent.resolve() != output.parent.resolve():
            raise DataError(f"{shard.path} does not lie beside {output}; shards and their store share a folder")
    ends = [0, *np.cumsum([shard.n_rows for shard in shards]).tolist()]
    if [shard.first_row for shard in shards] != ends[:-1] or ends[-1] != images.n_images:
        found = ", ".join(f"{shard.first_row} to {shard.first_row + shard.n_rows - 1}" for shard in shards)
        raise DataError(f"{output}: the shards hold rows {found} of {images.n_images} images; extract what is missing")
    layout = h5py.VirtualLayout((images.n_images, first.n_features), first.dtype)
    for shard in shards:
        # By its name alone: HDF5 looks for it beside the file that names it.
        source = h5py.VirtualSource(shard.path.name, "features", (shard.n_rows, shard.n_features), first.dtype)
        layout[shard.first_row : shard.first_row + shard.n_rows] = source
    listed = [{"file": shard.path.name, "rows": shard.n_rows, "digest": shard.digest} for shard in shards]
    with whole_or_absent(output) as temporary, h5py.File(temporary, "w", locking=False) as file:
        file.create_virtual_dataset("features", layout)
        file.create_dataset("labels", data=images.labels.astype(np.int64))
        file.create_dataset("group", data=images.group.astype(np.int32))
        file.create_dataset("split", data=images.split.astype(np.uint8))
        texts = {"source": images.sources(), "class_names": images.class_names, "group_names": images.group_names}
        for name, values in texts.items():
            file.create_dataset(name, data=np.array(values, dtype=object), dtype=h5py.string_dtype())
        file.attrs.update(
            {
                "format": FORMAT,
                "schema_version": SCHEMA_VERSION,
                "description": first.description,
                "shards": json.dumps(listed),
                "measured": json.dumps([shard.measured for shard in shards]),
                "digest": _digest(first.description, [shard.digest for shard in shards], images.digest),
                "complete": True,
            }
        )


def _digest(description: str, shards: Sequence[str], images: str) -> str:
    return hashlib.sha256(json.dumps([FORMAT, SCHEMA_VERSION, description, shards, images]).encode()).hexdigest()


class FeatureStore:
    """A feature store opened for reading; use as a context manager."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        """Use `FeatureStore.open`."""
        self.path = path
        self._file = file
        self._features = file["features"]
        self.description: dict[str, Any] = json.loads(file.attrs["description"])
        """What the features are: backbone, weights, adaptation, preprocessing, precision, image store, versions."""
        self.measured: list[dict[str, Any]] = json.loads(file.attrs["measured"])
        """What extraction took, for each shard."""
        self.digest = str(file.attrs["digest"])
        self.labels: NDArray[np.int64] = file["labels"][:]
        self.group: NDArray[np.int32] = file["group"][:]
        self.split: NDArray[np.uint8] = file["split"][:]
        self.class_names = tuple(str(name) for name in file["class_names"].asstr()[:])
        self.group_names = tuple(str(name) for name in file["group_names"].asstr()[:])
        self.sources = [str(name) for name in file["source"].asstr()[:]]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a feature store and look whether it and its shards are whole.

        Raises DataError if it is missing, truncated, foreign, of a newer schema, or has lost a shard. (HDF5 itself would give
        zeros for the rows of a shard that is not there.)
        """
        again = "delete it and extract again"
        try:
            file = h5py.File(path, "r", locking=False)
        except FileNotFoundError:
            raise DataError(f"feature store {path} is missing; extract the features first") from None
        except OSError as error:
            raise DataError(f"feature store {path} cannot be read ({error}); {again}") from None
        try:
            if file.attrs.get("format") != FORMAT:
                raise DataError(
                    f"{path} is an HDF5 file but no feature store of pydyn; choose another path, or {again}"
                )
            version = file.attrs["schema_version"]
            if version != SCHEMA_VERSION:
                advice = "upgrade pydyn" if version > SCHEMA_VERSION else again
                raise DataError(
                    f"feature store {path} has schema {version}, this pydyn reads {SCHEMA_VERSION}; {advice}"
                )
            store = cls(path, file)
            for shard in json.loads(file.attrs["shards"]):
                found = _read_shard(path.parent / shard["file"])
                if (found.digest, found.n_rows) != (shard["digest"], shard["rows"]):
                    raise DataError(f"feature store {path}: its shard {found.path} was written anew; {again}")
        except (DataError, MemoryError):
            file.close()
            raise
        except Exception as error:  # on a damaged file HDF5 raises almost anything
            file.close()
            raise DataError(f"feature store {path} cannot be read ({error}); {again}") from error
        return store

    def __enter__(self) -> Self:
        """Nothing to do: the file is open."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._file.close()

    @property
    def n_images(self) -> int:
        """Rows."""
        return int(self._features.shape[0])

    @property
    def n_features(self) -> int:
        """Columns."""
        return int(self._features.shape[1])

    def features(self) -> Features:
        """All of them, (N, D), in the dtype they are stored in."""
        values: Features = self._features[:]
        return values

    def verify(self) -> None:
        """Read everything and compare with the shards' digests. Raises DataError if they differ."""
        start = 0
        for shard in json.loads(self._file.attrs["shards"]):
            digest, end = hashlib.sha256(), start + shard["rows"]
            try:
                for block in range(start, end, BLOCK_ROWS):
                    digest.update(np.ascontiguousarray(self._features[block : min(block + BLOCK_ROWS, end)]).data)
            except OSError as error:
                raise DataError(f"{self.path.parent / shard['file']} is damaged ({error}); extract it again") from error
            if digest.hexdigest() != shard["digest"]:
                path = self.path.parent / shard["file"]
                raise DataError(f"{path} differs from its digest; delete it and extract it again")
            start = end
