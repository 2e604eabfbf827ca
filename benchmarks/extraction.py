"""Extraction of features against the bare forward pass of the same backbone, and what a search costs by either way.

    python -m benchmarks.extraction [--quick] [--backbone NAME] [--images N] [--rounds N] [--threads N] [--json FILE]

Extraction is what a job of the workflow does: images from an HDF5 store, resized, normalised, through the backbone, into an
HDF5 file, with the energy meter on. The forward pass is the network alone on a batch that is there already, same batch size,
precision, threads. Both in turn; medians.

"search" rows put together the source's own measure from measured parts: seconds of fine-tuning every combination, for EPOCHS
epochs, against extraction once and all heads at once. Backbones get random weights here: they take as long as trained ones.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.measure import Row, device_name, table, timed, write_json
from pydyn.config.datasets import ShapesDataset
from pydyn.data.inputs import BackboneInputs
from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.device import keep_memory, resolve_precision
from pydyn.features.extraction import extract, runner
from pydyn.models.backbones import load_backbone
from pydyn.models.classifier import Classifier
from pydyn.models.head_setting import HeadSetting
from pydyn.models.heads import build
from pydyn.models.names import Backbone
from pydyn.models.settings import ExtractionSetting
from pydyn.training.fine_tuning import training_precision
from pydyn.training.heads import train_heads

BATCH = 32
EPOCHS = 10
"""Of a fine-tuning, in search rows: few, which is in its favour."""
HEAD_EPOCHS = 100
HIDDEN = 128
SEARCHES = ((1_000, 10), (10_000, 40), (100_000, 160))
N_CLASSES = 3


def store_of(folder: Path, n_images: int) -> ImageStore:
    """Generated images of the backbones' size."""
    path = folder / "images.h5"
    dataset = ShapesDataset(source="shapes", train=n_images - N_CLASSES, test=N_CLASSES, image_size=224)
    prepare("benchmark", dataset, Path(), path)
    return ImageStore.open(path)


def extraction_row(name: str, store: ImageStore, device: torch.device, rounds: int, folder: Path) -> Row:
    """Ours against the bare forward pass."""
    backbone = load_backbone(Backbone(name, "none"))
    precision = resolve_precision("auto", device)
    run = runner(backbone.network, device, precision)
    inputs = BackboneInputs(store, backbone.preprocessing, device)
    setting = ExtractionSetting(batch_size=BATCH)
    n_images = store.n_images // BATCH * BATCH
    batch = inputs.batch(np.arange(BATCH))

    def ours() -> None:
        extract(
            inputs, range(n_images), run, backbone.n_features, folder / "shard.h5", setting, {}, "ESP", "here", name
        )

    def bare() -> None:
        for _ in range(n_images // BATCH):
            run(batch)

    taken: dict[str, list[float]] = {"ours": [], "bare": []}
    timed(bare, device, 1)
    for _ in range(rounds):
        taken["bare"].append(timed(bare, device, 1))
        taken["ours"].append(timed(ours, device, 1))
    seconds, rival = (statistics.median(taken[key]) for key in ("ours", "bare"))
    case = f"extraction {name}"
    return Row(case, "forward", device_name(device), seconds, rival, rival / seconds, rival / seconds, None, rounds)


def fine_tuning_seconds(name: str, device: torch.device) -> float:
    """Of an image and epoch."""
    backbone = load_backbone(Backbone(name, "none"))
    precision = training_precision("auto", backbone.network, device)
    head = build("linear", backbone.n_features, N_CLASSES, torch.Generator().manual_seed(0))
    network = Classifier(backbone.network.requires_grad_(True), head).to(device, memory_format=torch.channels_last)
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    size = backbone.preprocessing.size
    images = torch.randn(BATCH, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, N_CLASSES, (BATCH,), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(images)
        optimiser.zero_grad()
        cross_entropy(logits.float(), labels).backward()
        optimiser.step()

    step()
    return statistics.median(timed(step, device, 1) for _ in range(3)) / BATCH


def head_seconds(n_features: int, n_combinations: int, device: torch.device) -> float:
    """Of a sample, combination and epoch, all combinations at once."""
    draw = torch.Generator().manual_seed(0)
    n_samples = 2_000
    labels = torch.randint(0, N_CLASSES, (n_samples,), generator=draw)
    features = torch.randn(n_samples, n_features, generator=draw) + labels[:, None] * 0.1
    features, labels, rows = features.to(device), labels.to(device), torch.arange(n_samples, device=device)
    settings = [
        HeadSetting(kind="redesigned", learning_rate=1e-4 * (1 + index), strength=1.0, hidden=HIDDEN, dropout=0.3)
        for index in range(n_combinations)
    ]
    half = n_samples // 2

    def train(epochs: int) -> None:
        train_heads(
            features.to(device),
            labels.to(device),
            rows[:half].to(device),
            rows[half:].to(device),
            settings,
            epochs=epochs,
        )

    train(1)
    return (timed(lambda: train(5), device, 1) - timed(lambda: train(1), device, 1)) / (4 * half * n_combinations)


def search_rows(name: str, extraction_seconds: float, n_features: int, device: torch.device) -> list[Row]:
    """The source's measure at its sizes, from parts that were measured here."""
    tuning = fine_tuning_seconds(name, device)
    rows = []
    for samples, combinations in SEARCHES:
        heads = head_seconds(n_features, combinations, device)
        ours = samples * extraction_seconds + samples * combinations * HEAD_EPOCHS * heads
        theirs = samples * combinations * EPOCHS * tuning
        case = f"search {name} {samples}x{combinations}"
        rows.append(Row(case, "fine-tuning", device_name(device), ours, theirs, theirs / ours, None, None, 1))
    return rows


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extraction", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="resnet18, few images, no search: within a minute")
    parser.add_argument(
        "--backbone", action="append", help="may repeat (default: efficientnet_lite0, resnet18, densenet121)"
    )
    parser.add_argument("--images", type=int, default=256, help="extracted in a turn (default: 256)")
    parser.add_argument("--rounds", type=int, default=5, help="turns (default: 5)")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    arguments = parser.parse_args()
    if min(arguments.images // BATCH, arguments.rounds, arguments.threads or 1) < 1:
        parser.error(f"--images is at least {BATCH}, --rounds and --threads at least 1")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = arguments.backbone or ["efficientnet_lite0", "resnet18", "densenet121"]
    n_images, rounds = arguments.images, arguments.rounds
    if arguments.quick:
        names, n_images, rounds = names[1:2] or names, 64, 2
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, store_of(Path(folder), n_images) as store:
        for name in names:
            rows.append(extraction_row(name, store, device, rounds, Path(folder)))
            if not arguments.quick:
                n_features = load_backbone(Backbone(name, "none")).n_features
                per_image = rows[-1].ours_seconds / (store.n_images // BATCH * BATCH)
                rows += search_rows(name, per_image, n_features, device)
    print(rows[0].device)
    print(table(rows))
    if arguments.json:
        write_json(rows, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
