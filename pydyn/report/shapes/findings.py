"""What came out of the study, in sentences."""

from collections.abc import Iterator
from itertools import takewhile

from pydyn.report import published
from pydyn.report.shapes.causes import at_the_clip
from pydyn.report.shapes.read import Analysed, ShapesResults, pooled
from pydyn.report.statistics import LEVEL, shares_differ
from pydyn.report.tables import capitalised
from pydyn.training.population_summary import LEARNT_NAME

# Where the sizes of data set 1.3 begin.
SMALLEST_OF_1_3 = 0.3


def findings(results: ShapesResults) -> Iterator[str]:
    """A sentence each."""
    for dataset, combinations in results.of_two_layers():
        found = pooled(combinations)
        low, high = found.interval
        alike = f", as of {found.independent} independent ones" if found.independent < found.n else ""
        told = [end for one in combinations for end in one.published]
        there = f" (published: {told.count(LEARNT_NAME)} of {len(told)})" if told else ""
        as_many = [end for one in combinations for end in one.as_many]
        same = (
            f"; as many of each combination as published: {as_many.count(LEARNT_NAME)} of {len(as_many)}"
            if told and len(as_many) == len(told)
            else ""
        )
        yield (
            f"{dataset}: {found.learnt} of {found.n} trainings learn, {100 * low:.0f} to {100 * high:.0f} % with 95 % "
            f"confidence{alike}{there}{same}."
        )
    yield from _one_layer(results)
    for place, summaries in results.causes_by_place().items():
        clipped, n_stuck = at_the_clip(summaries)
        if n_stuck:
            yield (
                f"Why they stick ({place[1]} on {place[0]}): in {clipped} of {n_stuck} stuck trainings with a clipped loss "
                "and linear outputs the images that are wrong lie beyond the clip, where they have no gradient."
            )
        safe = [s for s in summaries if s.run.pixels == "unit" and s.run.loss == "exact" and not s.run.output_relu]
        if safe:
            members = [s.end(member) for s in safe for member in s.members]
            yield (
                f"As one would train today ({place[1]} on {place[0]}; pixels of 0 to 1, loss not clipped): "
                f"{members.count(LEARNT_NAME)} of {len(members)} trainings learn, over {len(safe)} combinations of "
                "initialiser and optimiser."
            )
    for one in results.analyses:
        if one.summary.steps:
            yield _pruned(one)
    yield from _failures_by_size(results)


def _one_layer(results: ShapesResults) -> Iterator[str]:
    every = [one for one in results.combinations if not one.has_two_layers]
    for dataset in dict.fromkeys(one.run.dataset for one in every):
        found = [one for one in every if one.run.dataset == dataset]
        ends = [end for one in found for end in one.ends]
        told = [accuracy for one in found for accuracy in one.told]
        there = f"; published: none of {len(told)}, {100 * max(told):.1f} % at most" if told else ""
        yield f"One layer, {dataset}: {ends.count(LEARNT_NAME)} of {len(ends)} trainings learn{there}."


def _pruned(one: Analysed) -> str:
    summary, after = one.summary, one.after
    kept = len(list(takewhile(lambda accuracy: accuracy >= summary.accuracy - 0.01, after)))
    spared = {0: "none", 1: "the first"}.get(kept, f"the first {kept}")
    contradicting = len({one.filter for one in summary.contradictions})
    first = summary.steps[0].removed
    together = (
        f" Each of {len(first)} filters can be spared alone without a mistake; together, at the first step, they take "
        f"the accuracy to {100 * after[0]:.1f} %."
        if len(first) > 1
        else ""
    )
    return (
        f"{capitalised(one.name)}: greedy pruning keeps the accuracy within a point of {100 * summary.accuracy:.2f} % "
        f"for {spared} of {len(summary.steps)} steps; with one filter left in each layer it is "
        f"{100 * summary.accuracy_left:.1f} %. {contradicting} of {len(summary.filters)} filters contradict the others "
        f"at some step.{together}"
    )


def _failures_by_size(results: ShapesResults) -> Iterator[str]:
    """Why 1.3 replaced 1.2."""
    for one in results.analyses:
        sizes = one.summary.sizes
        dataset = published.shapes_set(results.data[one.summary.run.dataset].declaration)
        # A network that did not learn fails by class.
        if dataset != "1.2" or not sizes or not one.summary.learnt:
            continue
        small = [part for part in sizes if (part.low + part.high) / 2 < SMALLEST_OF_1_3]
        large = [part for part in sizes if part not in small]
        counts = [(sum(p.n_correct for p in parts), sum(p.n_images for p in parts)) for parts in (small, large)]
        shares = [correct / n for correct, n in counts]
        small_ones, large_ones = (f"{100 * share:.2f} %" for share in shares)
        p_value = shares_differ(*counts[0], *counts[1])
        if shares[0] >= shares[1]:
            verdict = "this network does not fail by size, the thesis's reason for data set 1.3"
        elif p_value < 1 - LEVEL:
            verdict = f"the reason that the thesis gives for data set 1.3 (p = {p_value:.2g}, Fisher's exact test)"
        else:
            verdict = f"a difference that may be chance (p = {p_value:.2g}, Fisher's exact test)"
        yield (
            f"{capitalised(one.name)}: {small_ones} of the figures of sizes up to {small[-1].high:.2f} are classified correctly, "
            f"{large_ones} of the larger ones: {verdict}."
        )
