"""Predictions on images of any size and mode with an exported model."""

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pydyn.data.decoding import decode_all
from pydyn.data.inputs import normalised, resized
from pydyn.data.listing import IMAGE_SUFFIXES, is_hidden, is_image
from pydyn.data.progress import with_progress
from pydyn.deploy.model_file import Model
from pydyn.errors import DataError
from pydyn.files import walk, whole_or_absent


@dataclass(frozen=True)
class Prediction:
    """Of one image; of one that cannot be read there is only the problem."""

    image: Path
    class_name: str = ""
    probability: float = float("nan")
    margin: float = float("nan")
    """The largest probability less the second largest."""
    probabilities: tuple[float, ...] = ()
    problem: str = ""


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, folders searched through for images, sorted. Raises DataError for what is not there or empty.

    In folders, links are followed, and those that lead nowhere, be it to images or to folders, are images that cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                path / name
                for name, is_folder in walk(path)
                if not is_folder and (is_image(name) or _is_lost(path, name))
            )
            if not inside:
                raise DataError(f"{path}: holds no images; image files end in {', '.join(sorted(IMAGE_SUFFIXES))}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return list(dict.fromkeys(found))


def save_predictions(
    output: Path | None, model: Model, images: Sequence[Path], device: torch.device, ambiguous_below: float
) -> list[Prediction]:
    """Predict images and write what comes of it, as `prediction_lines` and `save_lines` do; those that cannot be read."""
    problems: list[Prediction] = []

    def watched() -> Iterator[Prediction]:
        for prediction in predict_images(model, images, device):
            if prediction.problem:
                problems.append(prediction)
            yield prediction

    save_lines(output, prediction_lines(watched(), model.description.class_names, ambiguous_below))
    return problems


def save_lines(output: Path | None, lines: Iterable[str]) -> None:
    """Write a file, whole or not at all; standard output (None) and what is no file (`/dev/stdout`) line by line as they come.

    On a terminal they come at the end, after the progress. A link stays, and what it leads to is written.
    """
    if output is None:
        for line in list(lines) if sys.stdout.isatty() else lines:
            sys.stdout.write(line)
            sys.stdout.flush()  # what reads a pipe does not wait for the end
    elif output.exists() and not output.is_file():
        with output.open("w", encoding="utf-8", buffering=1) as stream:
            stream.writelines(lines)
    else:
        file = output.resolve() if output.is_symlink() else output
        with whole_or_absent(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(lines)


def _is_lost(folder: Path, name: str) -> bool:
    return not any(map(is_hidden, name.split("/"))) and not (folder / name).exists()


def predict_images(
    model: Model, images: Sequence[Path], device: torch.device, threads: int = 2
) -> Iterator[Prediction]:
    """Predict images in their order, some at a time; images are decoded by `threads` threads.

    They go the way of the images that the model was trained on: upright by EXIF, grey or RGB, 8 bits, resized.
    """
    what = model.description
    network = model.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    decoded = zip(images, decode_all(images, what.image_size, what.channels, threads), strict=True)
    progress = with_progress(decoded, len(images), "predict")
    while batch := list(islice(progress, what.batch_size)):
        readable = [outcome for _, outcome in batch if not isinstance(outcome, str)]
        chances = iter(_probabilities(model, network, np.stack(readable), device) if readable else ())
        for path, outcome in batch:
            if isinstance(outcome, str):
                yield Prediction(path, problem=outcome)
            else:
                yield _prediction(path, next(chances), what.class_names)


def _probabilities(
    model: Model, network: torch.nn.Module, images: NDArray[np.uint8], device: torch.device
) -> NDArray[np.float64]:
    what = model.description
    batch = normalised(resized(images, what.preprocessing, device), what.preprocessing)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=what.precision == "bf16"):
        logits = network(batch)
    return torch.softmax(logits.double(), 1).cpu().numpy()


def _prediction(path: Path, chances: NDArray[np.float64], class_names: Sequence[str]) -> Prediction:
    second, first = np.partition(chances, -2)[-2:]
    name = class_names[int(chances.argmax())]
    return Prediction(path, name, float(first), float(first - second), tuple(map(float, chances)))


def prediction_lines(
    predictions: Iterable[Prediction], class_names: Sequence[str], ambiguous_below: float
) -> Iterator[str]:
    """Lines of CSV, each as soon as its image is predicted: image, class, probability, margin, whether ambiguous (margin below
    `ambiguous_below`), a column for each class, and a problem if any.

    Names of files that are no Unicode are spelled with escapes, as in stores.
    """
    names = [f"p({name})" for name in class_names]
    yield _line(["image", "class", "probability", "margin", "ambiguous", *names, "problem"])
    for found in predictions:
        if found.problem:
            yield _line([found.image, "", "", "", "", *[""] * len(names), found.problem])
            continue
        ambiguous = "yes" if found.margin < ambiguous_below else "no"
        chances = [f"{chance:.6f}" for chance in found.probabilities]
        first, margin = f"{found.probability:.6f}", f"{found.margin:.6f}"
        yield _line([found.image, found.class_name, first, margin, ambiguous, *chances, ""])


def _line(values: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "backslashreplace").decode()
