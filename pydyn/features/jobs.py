"""What the workflow does to get features: adapt a backbone, extract a shard."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pydyn.data.inputs import BackboneInputs
from pydyn.data.parts import Parts
from pydyn.data.store import ImageStore
from pydyn.device import Device, resolve_precision
from pydyn.energy import Meter, Reading
from pydyn.errors import DataError
from pydyn.features.adaptation import Adaptation, adapt, statistics
from pydyn.features.extraction import extract, runner
from pydyn.features.store import ADAPTED, shard_rows
from pydyn.files import whole_or_absent
from pydyn.models.backbones import LoadedBackbone, load_backbone, state_digest
from pydyn.models.settings import ExtractionSetting
from pydyn.provenance import versions
from pydyn.seeding import numpy_generator
from pydyn.studies.frugal_runs import FeatureSet

Log = Callable[[str], None]


@dataclass(frozen=True)
class Adapted:
    """An adapted backbone's statistics and how they came about."""

    statistics: dict[str, Tensor]
    changes: tuple[float, ...]
    stopped: str
    reading: Reading
    place: str
    """Where the reading is of."""
    digest: str
    """Of the statistics."""


def place_of(device: Device) -> str:
    """What seconds depend on, in words."""
    return f"{device.name}, {device.threads} {'thread' if device.threads == 1 else 'threads'}"


def adapt_backbone(
    features: FeatureSet, store_path: Path, output: Path, device: Device, country: str, log: Log
) -> None:
    """Adapt a backbone's batch normalisation to the training images of a replicate; write the statistics to a file.

    Raises DataError if the image store or the weights cannot be used.
    """
    setting = features.adaptation
    assert setting is not None and features.splits is not None and features.seed is not None
    with ImageStore.open(store_path) as store:
        store.verify()
        rows = Parts.of(store, features.splits, features.seed).train
        backbone = load_backbone(features.backbone)
        precision = resolve_precision(features.precision, device.torch)
        run = runner(backbone.network, device.torch, precision)
        inputs = BackboneInputs(store, backbone.preprocessing, device.torch)
        with Meter(country) as meter:
            batches = _endless(inputs, rows, setting.batch_size, features.seed)
            done = adapt(backbone.network, batches, setting, run)
    _report(features, done, log)
    found = {name: value.cpu() for name, value in statistics(backbone.network).items()}
    origin = {
        "features": features.to_dict(),
        "backbone": backbone.digest,
        "images": store.digest,
        "changes": done.changes,
        "stopped": done.stopped,
        "reading": meter.reading.to_dict(),
        "place": place_of(device),
    }
    # safetensors wants a tensor: a backbone without batch normalisation has no statistics.
    with whole_or_absent(output) as temporary:
        save_file(found or {"nothing": torch.zeros(0)}, temporary, metadata={"pydyn": json.dumps(origin)})


def _endless(inputs: BackboneInputs, rows: NDArray[np.int64], batch_size: int, seed: int) -> Iterator[Tensor]:
    """Batches of training images in random order, again and again, all of one size."""
    draw = numpy_generator(seed, "adaptation")
    size = min(batch_size, len(rows))
    while True:
        order = draw.permutation(rows)
        for start in range(0, len(rows) - size + 1, size):
            yield inputs.batch(order[start : start + size])


def _report(features: FeatureSet, done: Adaptation, log: Log) -> None:
    if done.stopped == "no batch normalisation":
        log(f"{features.id}: {features.backbone.name} has no batch normalisation; it is used as it is")
        return
    for position, change in enumerate(done.changes, 1):
        log(f"{features.id}: batch {position}, running means changed by {change:.4f}")
    assert features.adaptation is not None
    share = features.adaptation.share_adapted(len(done.changes))
    log(
        f"{features.id}: adapted over {len(done.changes)} batch(es), ended by the {done.stopped}; {100 * share:.0f} % of the "
        "running statistics are of these images"
    )


def read_adapted(path: Path, features: FeatureSet, backbone: str, images: str) -> Adapted:
    """Read an adaptation of a backbone with the digest `backbone` to images of the digest `images`.

    Raises DataError if it is missing, damaged, or of another backbone, setting or other images.
    """
    again = "delete it and run again"
    try:
        with safe_open(path, "pt") as file:
            origin = json.loads(file.metadata()["pydyn"])
            found = {name: file.get_tensor(name) for name in file.keys() if name != "nothing"}  # noqa: SIM118
        reading = Reading.from_dict(origin["reading"])
    except FileNotFoundError:
        raise DataError(f"{path} is missing; adapt the backbone first") from None
    except Exception as error:  # safetensors has an exception of its own for each fault
        raise DataError(f"{path} cannot be read ({error}); {again}") from None
    expected = json.loads(json.dumps({"features": features.to_dict(), "backbone": backbone, "images": images}))
    if others := [name for name, value in expected.items() if origin.get(name) != value]:
        raise DataError(f"{path} was made for other {others[0]}; {again}")
    # Files of earlier versions, which serve to export what was trained with them, tell no place.
    place = str(origin.get("place", "an unknown place"))
    return Adapted(found, tuple(origin["changes"]), origin["stopped"], reading, place, state_digest(found))


def load_adapted(features: FeatureSet, directory: Path, images: str) -> tuple[LoadedBackbone, Adapted | None]:
    """A backbone as features are extracted with it: adapted by the file in `directory` if it is to be."""
    backbone = load_backbone(features.backbone)
    if features.adaptation is None:
        return backbone, None
    adapted = read_adapted(directory / ADAPTED, features, backbone.digest, images)
    backbone.network.load_state_dict({**backbone.network.state_dict(), **adapted.statistics})
    return backbone, adapted


def extract_shard(
    features: FeatureSet, store_path: Path, output: Path, shard: int, n_shards: int, device: Device, country: str
) -> None:
    """Write one shard of features. Raises DataError if the image store, the weights or the adaptation cannot be used."""
    with ImageStore.open(store_path) as store:
        store.verify()
        backbone, adapted = load_adapted(features, output.parent, store.digest)
        precision = resolve_precision(features.precision, device.torch)
        extract(
            BackboneInputs(store, backbone.preprocessing, device.torch),
            shard_rows(store.n_images, shard, n_shards),
            runner(backbone.network, device.torch, precision),
            backbone.n_features,
            output,
            ExtractionSetting(features.batch_size, features.dtype, n_shards),
            _description(features, backbone, adapted, precision, store.digest),
            country,
            place_of(device),
            f"{features.id}, shard {shard + 1} of {n_shards}" if n_shards > 1 else features.id,
        )


def _description(
    features: FeatureSet, backbone: LoadedBackbone, adapted: Adapted | None, precision: str, images: str
) -> Mapping[str, Any]:
    now = versions()
    return {
        "features": features.to_dict(),
        "backbone": {"digest": backbone.digest, "origin": backbone.origin, "n_features": backbone.n_features},
        "preprocessing": asdict(backbone.preprocessing),
        "adaptation": None
        if adapted is None
        else {"changes": adapted.changes, "stopped": adapted.stopped, "digest": adapted.digest},
        "precision": precision,
        "images": images,
        "versions": {name: now[name] for name in ("torch", "torchvision")},
    }
