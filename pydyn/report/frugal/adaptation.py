"""How batch normalisation was adapted: a picture, and what to say where hardly anything was."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pydyn.report.figures import PAGE_WIDTH, Drawing, finish, legend_below, line_style, style
from pydyn.report.frugal.read import FrugalResults, read_changes
from pydyn.report.tables import number, time_share
from pydyn.studies.frugal_runs import HeadRun

# Of the running statistics, from the new images: below it, "adapted" says little.
LITTLE = 0.5

REST = (
    " Where the old variances were many times the new ones, what is left of them weighs more than its share: with momentum: null "
    "nothing is left."
)


def adaptation_drawing(results: FrugalResults) -> Drawing | None:
    """How batch normalisation followed the new domain."""
    every = [(run, changes) for run, changes in _adaptations(results) if np.isfinite(changes).any()]
    curves: dict[str, list[float]] = {}
    for run, changes in every:
        curves.setdefault(f"{run.dataset}, {run.backbone.label}, {run.splits}", changes)
    if not curves:
        return None
    setting = results.study.adaptation
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.8))
        axis = figure.subplots()
        for position, (name, changes) in enumerate(curves.items()):
            finite = np.where(np.isfinite(changes), changes, np.nan)
            axis.plot(np.arange(1, len(changes) + 1), finite, **line_style(position), marker=".", label=name)
        axis.axhline(setting.threshold, color="#aaaaaa", linewidth=1, linestyle=(0, (4, 3)))
        axis.set_yscale("log")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("batch")
        axis.set_ylabel("change of the running means")
        legend_below(figure, *axis.get_legend_handles_labels(), 2)
        batches = [len(changes) for _, changes in every]
        caption = (
            "Adaptation of batch normalisation, first replicate: relative change of all running means from batch to batch. Ends "
            f"below {setting.threshold:g} (dashed), at the latest after {number(setting.max_batches)} batches. Over all "
            f"replicates it took {_from_to(batches, number)} batches, after which {_moved(results, batches)} of the running "
            f"statistics are of the new images.{'' if setting.momentum is None else REST}"
        )
        return finish("frugal-adaptation", caption, figure)


def adaptation_sentences(results: FrugalResults) -> Iterator[str]:
    """That adaptations ended before they moved much, if they did."""
    every = list(_adaptations(results))
    share = results.study.adaptation.share_adapted
    little = [len(changes) for _, changes in every if share(len(changes)) < LITTLE]
    if little:
        yield (
            f"{len(little)} of {len(every)} adaptations of batch normalisation ended after {_from_to(little, number)} "
            f"batch{'es' if max(little) > 1 else ''}, with {_moved(results, little)} of the running statistics "
            "from the new images: features are nearly those of the backbone as it comes, and what adaptation is worth may be "
            "more than is shown. With frugal.adaptation.momentum: null nothing is left of the old ones."
        )


def _adaptations(results: FrugalResults) -> Iterator[tuple[HeadRun, list[float]]]:
    """Of each adapted backbone with batch normalisation, a head on it and the changes by batch."""
    for row in results.rows("ablation"):
        if row.is_proposed:
            for result in row.results:
                assert isinstance(result.run, HeadRun)
                if changes := read_changes(result.run, results.folder):
                    yield result.run, changes


def _moved(results: FrugalResults, batches: list[int]) -> str:
    return _from_to([results.study.adaptation.share_adapted(count) for count in batches], time_share)


def _from_to(values: Sequence[float], text: Callable[[float], str]) -> str:
    low, high = text(min(values)), text(max(values))
    return low if low == high else f"{low} to {high}"
