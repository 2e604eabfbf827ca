"""Images through a frozen backbone, once: a shard of features at a time, memory bounded."""

import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pydyn.data.inputs import BackboneInputs
from pydyn.data.progress import with_progress
from pydyn.energy import Meter
from pydyn.features.store import ShardWriter
from pydyn.files import whole_or_absent
from pydyn.models.settings import ExtractionSetting


def runner(network: nn.Module, device: torch.device, precision: str) -> Callable[[Tensor], Tensor]:
    """A function from normalised images (B, 3, S, S) to float32 features (B, D), without gradients."""
    network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def run(images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return network(images).float()  # type: ignore[no-any-return]

    return run


def extract(
    inputs: BackboneInputs,
    rows: range,
    run: Callable[[Tensor], Tensor],
    n_features: int,
    output: Path,
    setting: ExtractionSetting,
    description: Mapping[str, Any],
    country: str,
    place: str,
    what: str,
) -> None:
    """Write the features of some images as a shard, whole or not at all.

    Args:
        inputs: the images.
        rows: of the image store, the shard's.
        run: the backbone, see `runner`.
        n_features: columns of what it gives.
        output: the shard's file.
        setting: how.
        description: what the features are; equal for all shards of a store.
        country: whose electricity it is, for the energy reading.
        place: where this runs (device, threads), for who compares what it takes.
        what: begins each line of progress.
    """
    with whole_or_absent(output) as temporary, ShardWriter(temporary, rows, n_features, setting.dtype) as writer:
        with Meter(country) as meter:
            starts = range(rows.start, rows.stop, setting.batch_size)
            for start in with_progress(starts, len(starts), f"{what}, batches of {setting.batch_size}"):
                batch = np.arange(start, min(start + setting.batch_size, rows.stop), dtype=np.int64)
                writer.add(_stored(run(inputs.batch(batch)), setting.dtype))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        reading = meter.reading.to_dict()
        measured = {"images": len(rows), "peak_mb": round(peak_mb), "reading": reading, "place": place}
        writer.finish(description, measured)
    speed = len(rows) / meter.reading.seconds if meter.reading.seconds else 0
    print(f"{what}: {len(rows):,} images, {speed:,.1f} images/s, peak memory {peak_mb:,.0f} MB", flush=True)


def _stored(features: Tensor, dtype: str) -> NDArray[Any]:
    values = features.cpu().numpy()
    if dtype == "float16":
        # Beyond its range there is infinity, which would spoil every head silently.
        values = np.clip(values, -65504, 65504)
    return values.astype(dtype)
