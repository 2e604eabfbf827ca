"""A trained classifier as two files: `model.safetensors` with all weights, `model.json` with all else that a prediction needs.

Two and not one, so that weights need no pickle and a person can read the rest. Plain torch and safetensors read them, too: the
weights are those of `pydyn.models.classifier.Classifier`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file

from pydyn.errors import DataError
from pydyn.files import whole_or_absent
from pydyn.models.backbones import Preprocessing, build_backbone, state_digest
from pydyn.models.classifier import Classifier
from pydyn.models.heads import from_weights
from pydyn.models.names import Backbone

FORMAT, SCHEMA_VERSION = "pydyn classifier", 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True)
class ModelDescription:
    """What a model is, and how images are brought to it."""

    backbone: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    image_size: tuple[int, int] | None
    """Height and width that images were stored in, before the backbone's own preprocessing; None: as they come."""
    channels: Literal[1, 3]
    """That images were stored with."""
    precision: Literal["fp32", "bf16"]
    batch_size: int
    run: str
    """Id of the Run it was trained by."""
    dataset: str
    test: dict[str, Any]
    """Metrics on the Run's test images."""
    digest: str
    """SHA-256 of the weights."""
    versions: dict[str, str]

    def __post_init__(self) -> None:
        """Refuse what no image could be predicted with, by a ValueError."""
        Backbone(self.backbone)
        sizes = (*(self.image_size or ()), self.preprocessing.size, self.batch_size)
        if min(sizes) < 1:
            raise ValueError(f"image_size, preprocessing.size and batch_size must be at least 1, got {sizes}")
        if not all(std > 0 for std in self.preprocessing.std):
            raise ValueError(f"preprocessing.std = {self.preprocessing.std} must be above 0")

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `model.json`."""
        return {"format": FORMAT, "schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises ValueError for other values: the first mistake, in a line."""
        fields = {name: value for name, value in values.items() if name not in ("format", "schema_version")}
        try:
            # By way of JSON, where a list stands for a tuple.
            return TypeAdapter(cls).validate_json(json.dumps(fields), strict=True, extra="forbid")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@dataclass(frozen=True)
class Model:
    """A classifier in evaluation mode, on the CPU, and what it is."""

    network: Classifier
    description: ModelDescription


def save_model(model: Model, folder: Path, beside: Callable[[], object] = lambda: None) -> ModelDescription:
    """Write both files into a folder; the description, which makes it complete, last. Returns it with the weights' digest.

    `beside` is called when both are written, and before they replace what was there: if it fails, nothing has changed.
    """
    state = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    description = replace(model.description, digest=state_digest(state))
    with whole_or_absent(folder / DESCRIPTION) as described:
        described.write_text(json.dumps(description.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        with whole_or_absent(folder / WEIGHTS) as temporary:
            save_file(state, temporary, metadata={"pydyn": json.dumps({"run": description.run})})
            beside()
            (folder / DESCRIPTION).unlink(missing_ok=True)
    return description


def load_model(folder: Path, build: Callable[[str], tuple[torch.nn.Module, int]] = build_backbone) -> Model:
    """Read a model's folder.

    Raises DataError if files are missing, damaged, foreign, of a newer schema, or not of one model.
    """
    path = folder / DESCRIPTION
    again = "export the model again"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("format") != FORMAT:
            raise DataError(f"{path} describes no model of pydyn; name a folder that `pydyn export` wrote")
        if values["schema_version"] != SCHEMA_VERSION:
            version = values["schema_version"]
            raise DataError(
                f"{path} has schema {version}, this pydyn reads {SCHEMA_VERSION}; upgrade pydyn, or {again}"
            )
        description = ModelDescription.from_dict(values)
        state = load_file(folder / WEIGHTS)
    except (FileNotFoundError, NotADirectoryError) as error:
        lost = Path(error.filename or WEIGHTS).name
        raise DataError(f"{folder}: {lost} is missing; name a folder that `pydyn export` wrote") from None
    except DataError:
        raise
    except Exception as error:  # safetensors has an exception of its own for each fault
        raise DataError(f"model in {folder} cannot be read ({error}); {again}") from None
    if state_digest(state) != description.digest:
        raise DataError(f"{folder / WEIGHTS} is not of {path}: its digest differs; {again}")
    features, _ = build(description.backbone)
    try:
        head = from_weights(
            {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")}
        )
        network = Classifier(features, head)
        network.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{folder / WEIGHTS} does not fit the installed libraries' {description.backbone} ({reason}); {again}"
        ) from None
    if (n_classes := len(state["head.output.weight"])) != len(description.class_names):
        raise DataError(
            f"{path}: names {len(description.class_names)} classes, but its weights tell {n_classes} apart; {again}"
        )
    return Model(network.eval().requires_grad_(False), description)
