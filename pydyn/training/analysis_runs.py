"""Analyses of networks that populations left, in their folders."""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pydyn.config.datasets import ShapesDataset
from pydyn.data.shapes import KINDS, Figure, figure
from pydyn.data.store import ImageStore
from pydyn.errors import RunError
from pydyn.files import whole_or_absent
from pydyn.models.tiny import TinyNetwork
from pydyn.ops import GreyImages
from pydyn.provenance import analyses_digest, versions
from pydyn.sensitivity.activations import (
    ROTATION_CHOICE,
    activation_maps,
    choose_by_angle,
    choose_by_size,
    mean_activations,
)
from pydyn.sensitivity.failures import accuracy_by_size, failures
from pydyn.sensitivity.interactions import contradictions, interactions, pair_interactions
from pydyn.sensitivity.pruning import Filter, GreedyPruning, prune_greedily
from pydyn.sensitivity.similarity import (
    activation_similarity,
    greatest_similarity,
    kernel_similarity,
    l1_norms,
    rank_correlations,
)
from pydyn.studies.shapes_runs import AnalysisRun
from pydyn.training.analysis_summary import (
    AlikeFilters,
    AnalysisSummary,
    Contradicts,
    Failed,
    Interacts,
    Matrix,
    PrunedStep,
    RanksAgree,
    ShownImage,
    SizeRange,
    read_analysis_summary,
    write_analysis_summary,
)
from pydyn.training.folder import fingerprint_of, open_folder
from pydyn.training.population_runs import STD_OF_PIXELS, ShapesJob, architecture_of
from pydyn.training.population_summary import DIVERGED_NAME, read_population_summary
from pydyn.training.weights import WEIGHTS, load_weights

# Images that are shown of a data set whose figures are not known, and of misclassified ones.
SHOWN_OF_A_CLASS = 7
SHOWN_FAILURES = 24


@dataclass(frozen=True)
class Chosen:
    """The network to analyse."""

    network: TinyNetwork
    seed: int
    learnt: bool
    digest: str
    """SHA-256 of its parameters."""


def analyse(run: AnalysisRun, job: ShapesJob, store: ImageStore) -> None:
    """Analyse a network, unless that is complete. Raises RunError if its population is not."""
    code = analyses_digest()
    chosen = _choose(run, job)
    fingerprint = fingerprint_of(run, job.digest, code, chosen.digest)
    with open_folder(run, job.results, fingerprint, job.log) as directory:
        if directory is None:
            summary = read_analysis_summary(run.directory(job.results) / "summary.json")
            job.log(f"{run.id}: complete already, {_result(summary)}")
            return
        start = time.perf_counter()
        rows = np.arange(store.n_images)
        pixels = torch.from_numpy(store.images()[..., 0]).to(job.device.torch)
        labels = torch.from_numpy(store.labels).to(job.device.torch)
        images = GreyImages(pixels, labels, std=STD_OF_PIXELS[run.population.pixels])
        names = store.sources(rows)
        figures = _figures(store, names)
        shown = _shown(store.labels, figures)
        # Pruned by the images that it was trained on: the thesis's figures are multiples of 1/6,000, those of table 7 apart.
        std = STD_OF_PIXELS[run.population.pixels]
        facts = _measure(run, chosen.network, GreyImages(job.train.pixels, job.train.labels, std=std))
        found = failures(chosen.network, images, [float("nan")] * len(names) if figures is None else _sizes(figures))
        sizes = [] if figures is None or len(set(_sizes(figures))) == 1 else accuracy_by_size(found, _sizes(figures))
        _write_tensors(directory / "maps.safetensors", run, _maps(chosen.network, images, shown))
        failed_rows = np.array([failure.image for failure in found[:SHOWN_FAILURES]], dtype=np.int64)
        _write_tensors(
            directory / "images.safetensors",
            run,
            {"shown": pixels[torch.from_numpy(shown)].cpu(), "failed": pixels[torch.from_numpy(failed_rows)].cpu()},
        )
        summary = AnalysisSummary(
            run=run,
            fingerprint=fingerprint,
            code=code,
            data=job.digest,
            member_seed=chosen.seed,
            learnt=chosen.learnt,
            n_pruned_by=len(job.train),
            n_images=len(images),
            parameters=chosen.digest,
            n_parameters=chosen.network.architecture.n_parameters,
            failures=[
                Failed(names[one.image], one.true, one.predicted, _number(one.size) if figures else None)
                for one in found
            ],
            sizes=[SizeRange(part.low, part.high, part.n_images, part.n_correct) for part in sizes],
            shown=[
                ShownImage(
                    names[row],
                    int(store.labels[row]),
                    figures[row].size if figures else None,
                    figures[row].angle if figures else None,
                )
                for row in shown.tolist()
            ],
            **facts,
            seconds=time.perf_counter() - start,
            device=job.device.name,
            threads=job.device.threads,
            versions=versions(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_analysis_summary(directory / "summary.json", summary)
        job.log(f"{run.id}: done, {_result(summary)}")


def _result(summary: AnalysisSummary) -> str:
    return (
        f"member {summary.member_seed}, accuracy {summary.accuracy:.4f}, {len(summary.steps)} steps to "
        f"{summary.accuracy_left:.4f}, {summary.seconds:.1f} s"
    )


def _choose(run: AnalysisRun, job: ShapesJob) -> Chosen:
    """The member that `best_learnt` names; if none learnt, the one with the highest accuracy of those that did not diverge."""
    directory = run.population.directory(job.results)
    summary = read_population_summary(directory / "summary.json")
    if summary.run != run.population or summary.data != job.digest:
        raise RunError(f"{directory}: is of another population or other images; remove the folder and run again")
    learnt = summary.best_learnt
    ends = [summary.end(member) for member in summary.members]
    if set(ends) == {DIVERGED_NAME}:
        raise RunError(
            f"{run.id}: every network diverged, so that there is none to analyse; change `shapes.setting` or leave "
            "this one out of `shapes.analyses`"
        )
    accuracies = [
        -1.0 if end == DIVERGED_NAME else member.validation_accuracy
        for end, member in zip(ends, summary.members, strict=True)
    ]
    position = int(np.argmax(accuracies)) if learnt is None else learnt
    architecture = architecture_of(run.population, job.train.image_size, job.n_classes)
    weights = load_weights(directory)
    try:
        parameters = weights["parameters"][position].contiguous()
        digest = hashlib.sha256(parameters.numpy().tobytes()).hexdigest()
        network = TinyNetwork(architecture, parameters.to(job.device.torch))
    except (ValueError, KeyError, IndexError) as error:
        raise RunError(f"{directory / WEIGHTS}: not of this population ({error}); remove its folder") from None
    return Chosen(network, summary.members[position].seed, learnt is not None, digest)


def _figures(store: ImageStore, names: Sequence[str]) -> list[Figure] | None:
    """What is drawn on each image; None of a data set that was not generated."""
    if store.declaration.get("source") != "shapes":
        return None
    declared = ShapesDataset.model_validate_json(json.dumps(store.declaration))
    places = [name.split(":") for name in names]
    return [figure(declared, part, int(index)) for part, index in places]


def _sizes(figures: Sequence[Figure]) -> list[float]:
    return [one.size for one in figures]


def _shown(labels: NDArray[np.int64], figures: Sequence[Figure] | None) -> NDArray[np.int64]:
    """The thesis's choice: by size, or by angle where figures are turned and all of one size. Of others some of each class."""
    smallest = int(np.bincount(labels).min())
    if figures is None or smallest < max(sum(wanted.values()) for wanted in ROTATION_CHOICE.values()):
        return np.concatenate([np.flatnonzero(labels == label)[:SHOWN_OF_A_CLASS] for label in np.unique(labels)])
    angles, sizes = [one.angle for one in figures], _sizes(figures)
    if len(set(angles)) > 1 and len(set(sizes)) == 1 and set(np.unique(labels)) == set(range(len(KINDS))):
        return choose_by_angle(labels, angles, ROTATION_CHOICE)
    return choose_by_size(labels, sizes)


def _measure(run: AnalysisRun, network: TinyNetwork, images: GreyImages) -> dict[str, Any]:
    """The fields of the summary that pruning, similarity and rankings give."""
    pruning = prune_greedily(network, images)
    _, pairs = pair_interactions(network, images)
    kernels, activations = kernel_similarity(network), activation_similarity(network, images)
    scores = {
        "step at which it goes": [float(pruning.gone_at[filter]) for filter in pruning.filters],
        "L1 norm": np.concatenate(l1_norms(network)).tolist(),
        "mean activation": np.concatenate(mean_activations(network, images)).tolist(),
    }
    return {
        "accuracy": pruning.steps[0].accuracy if pruning.steps else pruning.accuracy,
        "filters": list(map(str, pruning.filters)),
        "steps": [
            PrunedStep(
                step.accuracy,
                {str(filter): without for filter, without in step.without.items()},
                list(map(str, step.removed)),
            )
            for step in pruning.steps
        ],
        "left": [str(filter) for filter, step in pruning.gone_at.items() if step > len(pruning.steps)],
        "accuracy_left": pruning.accuracy,
        "contradictions": [
            Contradicts(one.step, str(one.filter), one.accuracy, one.without) for one in contradictions(pruning)
        ],
        "interactions": [
            Interacts(one.step, str(one.filter), list(map(str, one.removed)), one.before, one.after)
            for one in interactions(pruning, run.interaction_above)
        ],
        "pairs": _plain(pairs),
        "scores": scores,
        "kernel_similarity": [_plain(matrix) for matrix in kernels],
        "activation_similarity": [_plain(matrix) for matrix in activations],
        "alike": _alike(run.similar_above, kernels, activations),
        "ranks": _ranks(pruning, scores, kernels, activations),
    }


def _alike(
    threshold: float, kernels: list[NDArray[np.float64]], activations: list[NDArray[np.float64]]
) -> list[AlikeFilters]:
    """Pairs whose kernels or whose activation maps are at least so similar, most similar first."""
    found = [
        AlikeFilters(
            layer + 1,
            str(Filter(layer, first)),
            str(Filter(layer, second)),
            _number(of_kernels[first, second]),
            _number(of_maps[first, second]),
        )
        for layer, (of_kernels, of_maps) in enumerate(zip(kernels, activations, strict=True))
        for first in range(len(of_kernels))
        for second in range(first + 1, len(of_kernels))
        if of_kernels[first, second] >= threshold or of_maps[first, second] >= threshold
    ]
    return sorted(found, key=lambda pair: -max(pair.kernel_percent or -100, pair.activation_percent or -100))


def _ranks(
    pruning: GreedyPruning,
    scores: dict[str, list[float]],
    kernels: list[NDArray[np.float64]],
    activations: list[NDArray[np.float64]],
) -> list[RanksAgree]:
    """Whether what is cheap to know of a filter tells when greedy pruning lets it go, layer by layer."""
    found = []
    for layer, (of_kernels, of_maps) in enumerate(zip(kernels, activations, strict=True)):
        rows = [position for position, filter in enumerate(pruning.filters) if filter.layer == layer]
        of_layer: dict[str, Any] = {name: [values[row] for row in rows] for name, values in scores.items()}
        of_layer["most similar kernel"] = greatest_similarity(of_kernels)
        of_layer["most similar maps"] = greatest_similarity(of_maps)
        found += [
            RanksAgree(layer + 1, one.first, one.second, one.n_filters, _number(one.coefficient), _number(one.p_value))
            for one in rank_correlations(of_layer)
        ]
    return found


def _maps(network: TinyNetwork, images: GreyImages, shown: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    layers = activation_maps(network, images.take(torch.from_numpy(shown).to(images.pixels.device)))
    return {f"layer{number}": maps.cpu() for number, maps in enumerate(layers, 1)}


def _write_tensors(path: Path, run: AnalysisRun, tensors: dict[str, torch.Tensor]) -> None:
    with whole_or_absent(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, {"pydyn": run.id})


def _plain(matrix: NDArray[np.float64]) -> Matrix:
    return [[_number(value) for value in row] for row in matrix.tolist()]


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)
