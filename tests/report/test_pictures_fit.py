"""Nothing that a picture says may lie beyond its edge, however long the names are."""

import pytest
from matplotlib.figure import Figure

from pydyn.report.figures import PAGE_WIDTH, legend_below, style
from tests.report.pages import Synthesise, beyond_the_edge, report

# The longest names fall into both columns of a legend of two.
LONG = [
    {"strategy": {"name": "full"}, "epochs": 4},
    {"strategy": {"name": "dynamic", "trigger": "signed", "delta": 0.005, "replacements": "ambiguous"}},
    {"strategy": {"name": "fixed", "alpha": 0.5}},
    {"strategy": {"name": "dynamic", "scheme": "best-set", "delta": 0.005, "replacements": "hard"}},
]


@pytest.mark.parametrize("protocol", ["paper", "holdout"])
def test_long_names_fit_into_every_picture(synthesise: Synthesise, cut_off: list[bool], protocol: str) -> None:
    parts = {
        experiment: {"trials": LONG, "replicates": 2, **more}
        for experiment, more in (("comparison", {}), ("robustness", {}), ("augmentation", {"recipe": "crop-flip"}))
    }
    grid = {"alpha": [0.3, 60], "beta": [0.3, 0.7], "gamma": [0.97]}
    report(synthesise, {"dynamic": {"protocols": [protocol], "grid": grid, **parts}})
    assert len(cut_off) >= 2 * 6  # each as PNG and as SVG
    assert not any(cut_off)


@pytest.mark.parametrize("length", [5, 40, 70])
def test_a_legend_takes_as_many_columns_as_there_is_room_for(length: int) -> None:
    with style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.0))
        axis = figure.subplots()
        for name in ("a", "b", "c"):
            axis.plot([0, 1], label=name * length)
        handles, labels = axis.get_legend_handles_labels()
        legend_below(figure, handles, labels, 3)
        figure.draw_without_rendering()
    assert not beyond_the_edge(figure)
    below = {round(text.get_window_extent().y0) for text in figure.legends[0].get_texts()}
    assert len(figure.legends) == 1 and len(below) == {5: 1, 40: 2, 70: 3}[length]
    # The panel is as high as without a legend.
    assert axis.get_window_extent().height / figure.dpi == pytest.approx(1.6, abs=0.2)
