"""The page: from files of results to one HTML file, with every table and drawing in files beside it."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pydyn.config.main import Config
from pydyn.errors import ConfigError, RunError
from pydyn.files import whole_or_absent, write_text
from pydyn.report.architectures import study as architectures
from pydyn.report.blocks import Section, StudyReport
from pydyn.report.dynamic import study as dynamic
from pydyn.report.figures import Drawing
from pydyn.report.frugal import study as frugal
from pydyn.report.gaps import find_gap
from pydyn.report.runs import StudyPage
from pydyn.report.sections import data_section, provenance_section, runs_section
from pydyn.report.shapes import study as shapes
from pydyn.report.tables import Table
from pydyn.studies.run import AnyRun

# As the template has them: of a page of other origin nothing is taken for ours.
GENERATOR = '<meta name="generator" content="pydyn">'
LINK = re.compile(r'<a href="((?:tables|figures)/[\w.-]+\.(?:csv|svg|png))">')

# What each study puts on the page: it reads its results, but for Runs to leave out, and says what came out. A new study is a line
# here.
PAGES: dict[str, Callable[[Config, Path, Collection[AnyRun]], StudyPage]] = {
    "dynamic": dynamic.page,
    "frugal": frugal.page,
    "architectures": architectures.page,
    "shapes": shapes.page,
}


def write_report(
    config: Config, results: Path, output: Path, progress: Callable[[str], None] = print, partial: bool = False
) -> None:
    """Write the page of all studies of a configuration, and before it the files beside it: `tables/*.csv`, `figures/*`.

    What an earlier page at the same place had beside it, and this one has not, is removed.

    Args:
        config: what was run.
        results: the folder that holds `data/` and the studies' Runs.
        output: the page's file.
        progress: called with a line for each step.
        partial: leave out Runs that are not complete, or of another configuration or other data, and say so.

    Raises:
        ConfigError: the page cannot be where it is to be.
        DataError: an image store is missing or broken.
        RunError: a Run cannot be read; unless `partial`, it is missing or of another configuration; or all are.
    """
    _check_output(output, results, partial)
    gaps = [gap for name in config.studies if partial and (gap := find_gap(config, name, results)).runs]
    left_out = {gap.study: gap.runs for gap in gaps}
    shown = [name for name in config.studies if not any(gap.is_whole for gap in gaps if gap.study == name)]
    if not shown:
        raise RunError(
            f"{results}: no Run of the studies {', '.join(config.studies)} is there that this version of pydyn can read, so "
            "there is nothing to report; run the workflow first"
        )
    pages = [PAGES[name](config, results, left_out.get(name, ())) for name in shown]
    for gap in gaps:
        progress(gap.warning)
    progress(f"read {sum(len(page.runs) for page in pages)} Runs from {results}")
    sections = list(_sections(config, pages))
    earlier = _files_of_page(output)
    written = _write_files(sections, output.parent)
    write_text(output, render([page.report for page in pages], sections, [gap.warning for gap in gaps]))
    for left_over in earlier.difference(written):
        left_over.unlink(missing_ok=True)
    tables = sum(path.suffix == ".csv" for path in written)
    progress(f"wrote {output}, {tables} tables and {(len(written) - tables) // 2} figures beside it")


def _check_output(output: Path, results: Path, partial: bool) -> None:
    if output.is_dir():
        raise ConfigError(f"--output {output}: is a folder; name a file in it, as {output / 'index.html'}")
    # The workflow would take a partial page for its own, and have nothing left to do.
    own = (results / "report").resolve()
    if partial and own in output.resolve().parents:
        raise ConfigError(f"--output {output}: the workflow's own page lies in {own}; put a partial one elsewhere")


def render(reports: Sequence[StudyReport], sections: Sequence[Section], warnings: Sequence[str]) -> str:
    """The page as HTML that needs no other file. Warnings come before everything else."""
    environment = Environment(
        loader=PackageLoader("pydyn.report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Drawings are our own, and the one thing on the page that is markup already.
    environment.filters["markup"] = Markup
    return environment.get_template("page.html.j2").render(reports=reports, sections=sections, warnings=warnings)


def _sections(config: Config, pages: Sequence[StudyPage]) -> Iterator[Section]:
    data = list({facts.name: facts for page in pages for facts in page.data}.values())
    runs = [run for page in pages for run in page.runs]
    yield data_section(data)
    for page in pages:
        for section in page.report.sections:
            # Of several studies each has an experiment 3 of its own.
            own = f"{page.report.title} · {section.title}" if len(pages) > 1 else section.title
            yield replace(section, title=own)
    yield runs_section(runs)
    yield provenance_section(config, data, runs)


def _write_files(sections: Sequence[Section], folder: Path) -> list[Path]:
    blocks = [block for section in sections for block in section.blocks]
    written = []
    for table in (block for block in blocks if isinstance(block, Table)):
        written.append(folder / "tables" / f"{table.name}.csv")
        write_text(written[-1], table.data.to_csv(index=False, lineterminator="\n"))
    for drawing in (block for block in blocks if isinstance(block, Drawing)):
        written.append(folder / "figures" / f"{drawing.name}.svg")
        write_text(written[-1], drawing.svg_file)
        written.append(folder / "figures" / f"{drawing.name}.png")
        with whole_or_absent(written[-1]) as temporary:
            temporary.write_bytes(drawing.png)
    return written


def _files_of_page(page: Path) -> set[Path]:
    """The tables and figures of an earlier page at this place, which links them all."""
    if not page.is_file():
        return set()
    text = page.read_text(encoding="utf-8", errors="replace")
    links = LINK.findall(text) if GENERATOR in text else []
    return {page.parent / link for link in links}
