"""Synthetic results, written with the writers that real ones are written with."""

import json
import random
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure

from pydyn.config.main import Config, overlay, parse
from pydyn.data.store import StoreWriter
from pydyn.report.page import write_report
from pydyn.report.results import read_facts
from pydyn.studies.registry import runs
from pydyn.studies.run import AnyRun, Run
from pydyn.training.history import Epoch, History
from pydyn.training.summary import Accuracy, DeadUnits, Seconds, Summary, write_summary
from tests.report.pages import beyond_the_edge
from tests.report.small_shapes import train

CLASSES = ["ellipse", "rectangle", "triangle"]
TRIALS = [
    {"strategy": {"name": "full"}},
    {"strategy": {"name": "fixed", "alpha": 0.5}},
    {"strategy": {"name": "dynamic", "scheme": "base", "alpha": 0.5, "beta": 0.7, "gamma": 0.97}},
    {"strategy": {"name": "dynamic", "scheme": "best-set", "alpha": 0.5, "beta": 0.7, "gamma": 0.97}},
]
BASE: dict[str, Any] = {
    "studies": ["dynamic"],
    "datasets": {"figures": {"source": "shapes", "train": 120, "test": 60}},
    "dynamic": {"dataset": "figures", "protocols": ["paper"], "epochs": 8, "batch_size": 64},
}
PARTS: dict[str, Any] = {
    "grid": {"dynamic": {"grid": {"alpha": [0.3, 60], "beta": [0.3, 0.7], "gamma": [0.97], "replicates": 2}}},
    "comparison": {"dynamic": {"comparison": {"trials": TRIALS, "replicates": 3}}},
    "single comparison": {"dynamic": {"comparison": {"trials": TRIALS}}},
    "augmentation": {"dynamic": {"augmentation": {"trials": [TRIALS[0], TRIALS[1], TRIALS[3]], "replicates": 3}}},
    "robustness": {"dynamic": {"robustness": {"trials": [TRIALS[0], TRIALS[3]], "replicates": 4}}},
    "both protocols": {"dynamic": {"protocols": ["paper", "holdout"]}},
}


def configure(*parts: str | dict[str, Any]) -> Config:
    """The base configuration with parts laid over it, by name or as they are."""
    raw = BASE
    for part in parts:
        raw = overlay(raw, PARTS[part] if isinstance(part, str) else part)
    return parse(raw)


SMALL = (108, 12, 60)


def write_store(
    results: Path,
    name: str = "figures",
    classes: list[str] = CLASSES,
    skipped: dict[str, str] | None = None,
    sizes: tuple[int, int, int] = SMALL,
    declaration: dict[str, Any] | None = None,
    shape: tuple[int, int, int] = (8, 8, 1),
) -> None:
    """Train, validation and test images of these sizes, all black, classes in turn."""
    path = results / "data" / f"{name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    split = np.repeat([0, 1, 2], sizes)
    n_images = sum(sizes)
    skipped = skipped or {}
    with StoreWriter(path, n_images, shape) as writer:
        writer.add(np.zeros((n_images, *shape), np.uint8))
        writer.finish(
            {"dataset": name, "declaration": json.dumps(declaration or {"source": "shapes"}), "created_by": "{}"},
            {
                "labels": np.arange(n_images) % len(classes),
                "split": split.astype(np.uint8),
                "group": np.full(n_images, -1, np.int32),
                "mean": np.full(shape[2], 0.25),
                "std": np.full(shape[2], 0.125),
            },
            {
                "class_names": classes,
                "group_names": [],
                "source": [str(i) for i in range(n_images)],
                "skipped": list(skipped),
                "skipped_reason": list(skipped.values()),
            },
        )


def write_run(results: Path, run: Run, data: str, sizes: tuple[int, int, int] = SMALL) -> Summary:
    """A Run whose accuracies rise to a level of its strategy, with noise of its seed."""
    level = {"full": 0.9, "fixed": 0.8}.get(run.strategy.name, 0.86) + 0.02 * len(run.strategy.label) / 30
    draw = np.random.default_rng([run.seed, len(run.id), sum(run.id.encode())])
    n_train, n_held_out, n_test = sizes
    n_pool = n_train if run.protocol == "holdout" else n_train + n_held_out
    size = run.strategy.subset_size(n_pool)
    resamples = getattr(run.strategy, "delta", 0) > 0
    rise = 1 - np.exp(-np.arange(1, run.epochs + 1) * 4 / run.epochs)
    validation = np.round(np.clip(level * rise + draw.normal(0, 0.015, run.epochs), 0, 1), 4)
    rows = [
        Epoch(
            epoch=epoch,
            train_loss=1 / epoch,
            train_accuracy=min(1.0, float(validation[epoch - 1]) * 1.05),
            validation_loss=1.1 / epoch,
            validation_accuracy=float(validation[epoch - 1]),
            subset_size=size,
            images_trained=epoch * size,
            unique_images=min(n_pool, size + (5 + run.seed) * epoch if resamples else size),
            resampling="I" if epoch % 3 == 0 else "none",
            replaced=0,
            beta=0.0,
            seconds_train=size / 500 + float(draw.uniform(0, 0.01)),
            seconds_evaluate=0.05,
            seconds_select=0.001,
            seconds_waiting=0.0,
        )
        for epoch in range(1, run.epochs + 1)
    ]
    holdout = run.protocol == "holdout"
    summary = Summary(
        run=run,
        fingerprint="f" * 16,
        code="c" * 16,
        data=data,
        accuracy=Accuracy(
            best_validation=float(validation.max()),
            best_epoch=int(validation.argmax()) + 1,
            last_validation=float(validation[-1]),
            test_at_last=float(validation[-1]) - 0.013 if holdout else None,
            test_at_best=float(validation.max()) - 0.011 if holdout else None,
        ),
        seconds=Seconds(
            sum(r.seconds_train for r in rows),
            sum(r.seconds_evaluate for r in rows),
            sum(r.seconds_select for r in rows),
        ),
        n_pool=n_pool,
        n_validation=n_held_out if holdout else n_test,
        n_test=n_test if holdout else 0,
        n_parameters=12345,
        images_trained=rows[-1].images_trained,
        unique_images=rows[-1].unique_images,
        resamplings_1=2 if resamples else 0,
        resamplings_2=run.seed if resamples else 0,
        confusion=[[18, 1, 1], [2, 17, 1], [0, 3, 17]],
        dead_units=[DeadUnits(1, 32, run.seed)],
        device="cpu",
        precision="fp32",
        threads=1,
        sittings=1,
        versions={"python": "3.11.9", "torch": "2.11.0"},
        finished="2026-01-02T03:04:05+00:00",
    )
    directory = run.directory(results)
    directory.mkdir(parents=True)
    History(directory / "history.csv", Epoch).restart(rows)
    times, rest = divmod(rows[-1].images_trained, n_pool)
    counts = np.full(n_pool, times, np.int32)
    counts[draw.permutation(n_pool)[:rest]] += 1
    np.save(directory / "times_trained.npy", counts)
    (directory / "weights.safetensors").touch()  # which the page does not read
    write_summary(directory / "summary.json", summary)
    return summary


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A small study `shapes`, trained for real: its configuration and folder of results. Tests read it, and do not change it."""
    return train(tmp_path_factory.mktemp("shapes") / "results")


@pytest.fixture(scope="session")
def synthesise(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Config, Path, dict[Run, Summary]]]:
    """Write the results of a configuration: (configuration, folder of results, what was written of each Run)."""

    def write(*parts: str | dict[str, Any], **store: Any) -> tuple[Config, Path, dict[Run, Summary]]:
        config, results = configure(*parts), tmp_path_factory.mktemp("synthetic") / "results"
        write_store(results, **store)
        digest = read_facts("figures", results).digest
        return (
            config,
            results,
            {run: write_run(results, run, digest, store.get("sizes", SMALL)) for run in runs(config, "dynamic")},
        )

    return write


def write_partial(config: Config, results: Path, absent: Iterable[AnyRun] = ()) -> str:
    """The page of what is left when these Runs' folders are gone; no figure on it is NaN."""
    for run in absent:
        shutil.rmtree(run.directory(results), ignore_errors=True)
    output = results.parent / "partial" / "index.html"
    shutil.rmtree(output.parent, ignore_errors=True)
    write_report(config, results, output, progress=lambda line: None, partial=True)
    page = output.read_text(encoding="utf-8")
    found = re.search(r"\bnan\b", re.sub("<svg.*?</svg>", "", page, flags=re.DOTALL))
    assert not found, page[found.start() - 200 :][:400]
    return page


def some_of(listed: Sequence[AnyRun], seed: int) -> list[AnyRun]:
    """A random part of Runs, from few to nearly all, but one at least stays."""
    draw = random.Random(seed)
    return draw.sample(listed, draw.randint(1, len(listed) - 1))


class _Tables(HTMLParser):
    """The text of every cell; a note in small type stands after a bar."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self._cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables[(dict(attrs)["id"] or "").removeprefix("table-")] = []
        elif self.tables and tag == "tr":
            self._rows.append([])
        elif self.tables and tag in ("td", "th"):
            self._rows[-1].append("")
            self._cell = True
        elif self._cell and tag == "small":
            self._rows[-1][-1] += " | "

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell:
            self._rows[-1][-1] += data

    @property
    def _rows(self) -> list[list[str]]:
        return list(self.tables.values())[-1]


@pytest.fixture
def read_tables() -> Callable[[Path], dict[str, list[list[str]]]]:
    """Every table of a page by its name, the header first."""

    def read(page: Path) -> dict[str, list[list[str]]]:
        parser = _Tables()
        parser.feed(page.read_text(encoding="utf-8"))
        return parser.tables

    return read


DRAW: Callable[..., None] = Figure.savefig


def _leave_blank(figure: Figure, file: IO[Any], *, format: str, **options: Any) -> None:
    file.write("<svg></svg>" if format == "svg" else b"")


def _draw_once(figure: Figure, file: IO[Any], *, format: str, **options: Any) -> None:
    (DRAW if format == "svg" else _leave_blank)(figure, file, format=format, **options)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are put together but not drawn, which is most of a page's time. Pages that tests share are whole."""
    monkeypatch.setattr(Figure, "savefig", _leave_blank)


@pytest.fixture
def drawn(undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of whether all can be drawn: as SVG, since a PNG is the same figure once more."""
    monkeypatch.setattr(Figure, "savefig", _draw_once)


@pytest.fixture
def drawn_as_both(undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", DRAW)


@pytest.fixture
def pictures(undrawn: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Each figure that is written, by its name: for tests of what it shows."""
    found: dict[str, Figure] = {}

    def keep(figure: Figure, file: IO[Any], *, format: str, **options: Any) -> None:
        if format == "svg":
            found[str(rcParams["svg.hashsalt"])] = figure
        _leave_blank(figure, file, format=format)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


@pytest.fixture
def cut_off(undrawn: None, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each file of a figure, whether something lies beyond its edge."""
    found: list[bool] = []

    def check(figure: Figure, *args: Any, **options: Any) -> None:
        DRAW(figure, *args, **options)
        found.append(beyond_the_edge(figure))

    monkeypatch.setattr(Figure, "savefig", check)
    return found
