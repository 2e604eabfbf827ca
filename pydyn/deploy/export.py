"""From a Run of the study `frugal` to a model that needs nothing of the workflow any more."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pydyn.data.store import ImageStore
from pydyn.deploy.model_file import Model, ModelDescription, save_model
from pydyn.errors import DataError, RunError
from pydyn.features.jobs import Adapted, load_adapted
from pydyn.features.store import ADAPTED, FEATURES, FeatureStore
from pydyn.files import whole_or_absent
from pydyn.models.backbones import LoadedBackbone, load_backbone
from pydyn.models.classifier import Classifier
from pydyn.models.heads import fold, from_weights
from pydyn.provenance import versions
from pydyn.studies.frugal_runs import FineTuningRun, FrugalRun, HeadRun
from pydyn.training.folder import fingerprint_of
from pydyn.training.frugal_summary import FrugalSummary, read_frugal_summary
from pydyn.training.weights import load_weights

ONNX = "model.onnx"
ONNX_TOLERANCE = 1e-4
"""Largest difference of a probability that an ONNX file may show against torch."""


def load_run(folder: Path) -> Model:
    """The classifier that a complete Run trained.

    Args:
        folder: the Run's, in the folder of results as the workflow wrote it.

    Raises RunError if it is no complete Run of the study `frugal`, DataError if its store, features or weights are gone.
    """
    summary = read_frugal_summary(folder / "summary.json")
    run = summary.run
    above = folder.resolve().parents
    place = len(Path(run.id).parts) + 1
    root = above[place] if place < len(above) else Path("/")
    if run.directory(root) != folder.resolve():
        raise RunError(
            f"{folder}: holds the Run {run.id}, but does not lie where the workflow put it; give its folder there"
        )
    weights = load_weights(folder)
    with ImageStore.open(root / "data" / f"{run.dataset}.h5") as store:
        if store.digest != summary.data:
            raise DataError(
                f"{store.path} holds other images than the Run {run.id} was trained on; run the workflow again"
            )
        try:
            backbone, network = _network(summary, root, weights)
        except (ValueError, RuntimeError) as error:
            raise RunError(
                f"{folder}: its weights are of another version of pydyn ({error}); run the workflow again"
            ) from None
        description = _description(summary, backbone, store)
    return Model(network.eval().requires_grad_(False), description)


def _network(summary: FrugalSummary, root: Path, weights: dict[str, torch.Tensor]) -> tuple[LoadedBackbone, Classifier]:
    run = summary.run
    if isinstance(run, HeadRun):
        backbone, adapted = load_adapted(run.features, run.features.directory(root), summary.data)
        if adapted is None:
            _require_same(backbone, summary, run, root)
        else:
            _require_same_adaptation(adapted, run.features.directory(root))
        return backbone, Classifier(backbone.network, fold(from_weights(weights)))
    backbone = load_backbone(run.backbone)
    head = from_weights(
        {name.removeprefix("head."): value for name, value in weights.items() if name.startswith("head.")}
    )
    network = Classifier(backbone.network, head)
    network.load_state_dict(weights)
    return backbone, network


def _require_same(backbone: LoadedBackbone, summary: FrugalSummary, run: HeadRun, root: Path) -> None:
    """Refuse weights that are not those whose features a head was trained on."""
    with FeatureStore.open(run.features.directory(root) / FEATURES) as features:
        if fingerprint_of(run, summary.data, features.digest, summary.code) != summary.fingerprint:
            raise DataError(
                f"{features.path} holds other features than the Run {run.id} was trained on; run the workflow again"
            )
        if features.description["backbone"]["digest"] != backbone.digest:
            raise DataError(
                f"{backbone.origin}: these are not the weights that the Run {run.id} was trained with; bring those back, or run "
                "the workflow again"
            )


def _require_same_adaptation(adapted: Adapted, directory: Path) -> None:
    """Refuse statistics that are not those that features were extracted with, where these are still there to tell."""
    try:
        with FeatureStore.open(directory / FEATURES) as features:
            extracted_with = features.description["adaptation"]["digest"]
    except DataError:  # gone, or without its shards: a model takes none of them along
        return
    if extracted_with != adapted.digest:
        raise DataError(
            f"{directory / ADAPTED}: these are not the statistics that {directory / FEATURES} is of; delete it and run the "
            "workflow again"
        )


def _description(summary: FrugalSummary, backbone: LoadedBackbone, store: ImageStore) -> ModelDescription:
    run = summary.run
    height, width, channels = store.image_shape
    batch_size = run.features.batch_size if isinstance(run, HeadRun) else _batch_size(run)
    return ModelDescription(
        backbone=run.backbone.name,
        class_names=store.class_names,
        preprocessing=backbone.preprocessing,
        image_size=(height, width),
        channels=1 if channels == 1 else 3,
        precision=summary.precision,  # type: ignore[arg-type]
        batch_size=batch_size,
        run=run.id,
        dataset=run.dataset,
        test=asdict(summary.test),
        digest="",
        versions=versions(),
    )


def _batch_size(run: FrugalRun) -> int:
    assert isinstance(run, FineTuningRun)
    return run.fine_tuning.batch_size


def export(run_folder: Path, output: Path, onnx: bool) -> ModelDescription:
    """Write a Run's classifier into a folder of its own: `model.safetensors`, `model.json`, and on demand `model.onnx`.

    A model that was there before is replaced whole, or stays whole.

    Raises RunError or DataError as `load_run` does; DataError if the ONNX file would not compute the same.
    """
    model = load_run(run_folder)
    if onnx:
        return save_model(model, output, lambda: export_onnx(model, output / ONNX))
    # The one of the model that was there before would pass for this one's.
    return save_model(model, output, lambda: (output / ONNX).unlink(missing_ok=True))


def export_onnx(model: Model, path: Path) -> float:
    """Write an ONNX file: normalised images `images` (B, 3, S, S) float32 to `probabilities` (B, C).

    It is checked against torch on random images before it is kept. Returns the largest difference of a probability. Raises
    DataError if that is above 1e-4, or if a package is missing.
    """
    try:
        import onnx  # noqa: F401 (torch's exporter needs it, and says so late)
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DataError(f'{error.name} is not installed, and --onnx needs it: pip install "pydyn[onnx]"') from None
    size = model.description.preprocessing.size
    network = torch.nn.Sequential(model.network, torch.nn.Softmax(1)).eval()
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with whole_or_absent(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about its own insides
            torch.onnx.export(
                network,
                (images[:2],),
                temporary,
                input_names=["images"],
                output_names=["probabilities"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        (found,) = session.run(["probabilities"], {"images": images.numpy()})
        with torch.no_grad():
            expected: np.ndarray[Any, Any] = network(images).numpy()
        difference = float(np.abs(found - expected).max())
        if not difference <= ONNX_TOLERANCE:
            raise DataError(
                f"{path}: its probabilities differ from torch's by {difference:.2g}, allowed is {ONNX_TOLERANCE:g}; not written"
            )
    return difference
