"""Sections that every study shares: data, every Run, provenance."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pandas as pd
import yaml

from pydyn.config.main import Config
from pydyn.data.copies import Copies
from pydyn.data.listing import PARTS
from pydyn.provenance import versions
from pydyn.report.blocks import Block, Facts, Paragraph, Section, Source
from pydyn.report.results import DataFacts
from pydyn.report.runs import RunFacts
from pydyn.report.tables import NONE, Cell, Table, label, listing, number, seconds

# More Runs than this are shown when asked for.
MOST_OPEN = 30
# More skipped images, or Runs, than this are counted, not named.
MOST_NAMED = 5


def data_section(datasets: Iterable[DataFacts]) -> Section:
    """What every image store holds."""
    blocks: list[Block] = []
    for data in datasets:
        blocks += [_data_table(data), Facts(_pixel_facts(data))]
        blocks += [Paragraph(_skipped(data.skipped), warning=True)] if data.skipped else []
        blocks += [Paragraph(_copies(data.copies, data), warning=True)] if data.copies else []
    return Section("data", "Data", blocks)


def _data_table(data: DataFacts) -> Table:
    frame = pd.DataFrame(data.counts, columns=list(PARTS))
    frame.insert(0, "class", data.class_names)
    frame["all"] = frame[list(PARTS)].sum(axis=1)
    frame.loc[len(frame)] = ["all classes", *frame.drop(columns="class").sum()]
    records = frame.rename(columns={"class": "class_name", "all": "total"})
    columns: dict[str, Callable[[Any], Cell]] = {
        "class": lambda row: label(row.class_name),
        **{split: partial(_count, split) for split in PARTS},
        "all": lambda row: Cell(number(row.total)),
    }
    return listing(
        f"data-{data.name}", f"Images of {data.name} by class and split. Source: {data.source}.", records, columns
    )


def _count(split: str, row: Any) -> Cell:
    return Cell(number(getattr(row, split)))


def _pixel_facts(data: DataFacts) -> list[tuple[str, str]]:
    return [
        ("Images", f"{data.size}; as read from the source, without augmentation"),
        ("Mean", ", ".join(f"{value:.4f}" for value in data.mean) + " (by channel, training split, in 0 to 1)"),
        ("Standard deviation", ", ".join(f"{value:.4f}" for value in data.std)),
        ("Digest", data.digest),
    ]


def _skipped(skipped: dict[str, str]) -> str:
    named = _named([f"{path} ({reason})" for path, reason in skipped.items()])
    return f"Images that could not be read and were left out, {len(skipped):,}: {named}."


def _copies(copies: Copies, data: DataFacts) -> str:
    original, copy = copies.first
    others = f" Copies of an image of another class: {copies.of_other_class:,}; one of the two is wrong."
    return (
        f"Copies, pixel by pixel, of other images: {copies.count:,} of {data.n_images:,}, such as {copy} of {original}. Test "
        "images of which the same is among those for training and validation, which flatters whatever is trained: "
        f"{copies.in_test:,} of {data.n_test:,}, in this division.{others if copies.of_other_class else ''}"
    )


def runs_section(runs: Sequence[RunFacts]) -> Section:
    """Every Run, one row each."""
    records = [
        {
            "study": run.study,
            "run": run.setting,
            "seed": run.seed,
            "accuracy_percent": run.accuracy_percent,
            "best_epoch": run.best_epoch,
            "epochs": run.epochs,
            "seconds_total": run.seconds,
            **run.more,
            "device": run.device,
            "precision": run.precision,
            "threads": run.threads,
            "code": run.code,
            "finished": run.finished,
            "earlier_places": "; ".join(run.earlier_places),
        }
        for run in runs
    ]
    columns = {
        "Run": lambda row: label(row.run),
        "seed": lambda row: Cell(number(row.seed)),
        "accuracy, %": lambda row: Cell(number(row.accuracy_percent, 2)),
        "best epoch": lambda row: Cell(f"{row.best_epoch} of {row.epochs}"),
        "seconds": lambda row: Cell(seconds(row.seconds_total)),
    }
    caption = "Every Run: the accuracy that its study reports, and what it took. The CSV file has more columns."
    return Section(
        "runs", "Every Run", [listing("runs", caption, pd.DataFrame(records), columns, folded=len(records) > MOST_OPEN)]
    )


def provenance_section(config: Config, data: Sequence[DataFacts], runs: Sequence[RunFacts]) -> Section:
    """What the figures were made with."""
    items = [
        ("Page written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("Runs finished", f"{min(run.finished for run in runs)} to {max(run.finished for run in runs)}"),
        ("Code of the Runs", _counted(f"{run.code} ({run.kind})" for run in runs)),
        ("Devices", _counted(run.device for run in runs)),
        ("Precision", _counted(run.precision for run in runs)),
        ("Threads", _counted(str(run.threads) for run in runs)),
        *((f"Data {facts.name}", facts.digest) for facts in data),
    ]
    blocks: list[Block] = [Facts(items), _versions_table(runs)]
    codes: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        codes.setdefault((run.study, run.kind), set()).add(run.code)
    if any(len(found) > 1 for found in codes.values()):
        text = "Not all Runs of a kind were trained by the same code: see the column code of runs.csv."
        blocks.append(Paragraph(text, warning=True))
    places: dict[tuple[str, str], set[tuple[str, str, int]]] = {}
    for run in runs:
        places.setdefault((run.study, run.kind), set()).add((run.device, run.precision, run.threads))
    if len({run.device for run in runs}) > 1 or any(len(found) > 1 for found in places.values()):
        text = "Runs differ in their device, or within a kind in precision or threads: their seconds do not compare."
        blocks.append(Paragraph(text, warning=True))
    if moved := [run for run in runs if run.earlier_places]:
        blocks.append(Paragraph(_moved(moved, len(runs)), warning=True))
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return Section("provenance", "Provenance", [*blocks, Source("Configuration", text)])


def _moved(moved: Sequence[RunFacts], n_runs: int) -> str:
    named = _named([f"{run.study} {run.setting}/seed{run.seed}" for run in moved])
    return (
        f"{len(moved):,} of {n_runs:,} Runs were moved to another place on the way, as to another machine, number of threads or "
        "precision: their figures are not, to the bit, those of uninterrupted Runs (column earlier_places of runs.csv): "
        f"{named}."
    )


def _named(names: Sequence[str]) -> str:
    more = f"; and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return "; ".join(names[:MOST_NAMED]) + more


def _versions_table(runs: Sequence[RunFacts]) -> Table:
    now = versions()
    names = list(dict.fromkeys([*now, *(name for run in runs for name in run.versions)]))
    records = [
        {
            "what": name,
            "of_the_runs": ", ".join(sorted({run.versions[name] for run in runs if name in run.versions})),
            "of_this_page": now.get(name, ""),
        }
        for name in names
    ]
    columns = {
        "": lambda row: label(row.what),
        "when the Runs were trained": lambda row: label(row.of_the_runs or NONE),
        "when this page was written": lambda row: label(row.of_this_page or NONE),
    }
    return listing("versions", "Commit and versions.", pd.DataFrame(records), columns)


def _counted(values: Iterable[str]) -> str:
    counts = Counter(values)
    return (
        next(iter(counts))
        if len(counts) == 1
        else ", ".join(f"{value} ({count} Runs)" for value, count in counts.items())
    )
