import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pydyn.report.page import write_report
from pydyn.report.results import read_facts
from pydyn.studies.registry import runs
from pydyn.training.summary import write_summary
from tests.report.conftest import configure, write_run, write_store

Synthesise = Callable[..., Any]
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write(synthesise: Synthesise, *parts: Any, **store: Any) -> Path:
    config, results, _ = synthesise(*parts, **store)
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    return results / "report"


@pytest.fixture(scope="module")
def everything(synthesise: Synthesise) -> Path:
    """The report of all experiments under both protocols."""
    return write(synthesise, "grid", "comparison", "robustness", "both protocols")


class Links(HTMLParser):
    """Everything on a page that a browser could load or go to, and every identifier."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [
            value or "" for key, value in attrs if key in ("href", "src", "xlink:href", "data", "action", "srcset")
        ]
        self.ids += [value or "" for key, value in attrs if key == "id"]


def test_the_page_needs_no_other_file_and_no_network(everything: Path) -> None:
    text = (everything / "index.html").read_text()
    links = Links()
    links.feed(text)
    assert not links.tags & {"script", "link", "iframe", "object", "embed", "img", "base"}
    assert not re.search(r"@import|url\((?!#)", text)
    for target in links.targets:
        if target.startswith("#"):
            assert target[1:] in links.ids
        else:
            assert re.fullmatch(r"(tables|figures)/[\w.-]+", target) and (everything / target).is_file()


def test_files_of_an_earlier_page_go_and_no_others(synthesise: Synthesise) -> None:
    folder = write(synthesise, "grid", "comparison")
    config, results, _ = synthesise("comparison")
    earlier = {path for path in folder.rglob("*") if path.is_file()}
    (folder / "tables" / "mine.csv").write_text("of somebody else")
    write_report(config, results, folder / "index.html", progress=lambda line: None)
    links = Links()
    links.feed((folder / "index.html").read_text())
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert left == {
        *(target for target in links.targets if not target.startswith("#")),
        "index.html",
        "tables/mine.csv",
    }
    assert len(left) < len(earlier)


def test_a_page_of_somebody_else_loses_no_files(synthesise: Synthesise, tmp_path: Path) -> None:
    config, results, _ = synthesise("single comparison")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "holiday.png").write_bytes(b"")
    (tmp_path / "index.html").write_text('<a href="figures/holiday.png">')
    write_report(config, results, tmp_path / "index.html", progress=lambda line: None)
    assert (tmp_path / "figures" / "holiday.png").exists()


def test_identifiers_are_unique(everything: Path) -> None:
    links = Links()
    links.feed((everything / "index.html").read_text())
    assert len(links.ids) == len(set(links.ids))


def test_sections_of_several_studies_say_whose_they_are(tmp_path: Path) -> None:
    study = {"dataset": "figures", "epochs": 2, "replicates": 1}
    config = configure(
        "single comparison", {"studies": ["dynamic", "architectures"], "architectures": {**study, "strategies": []}}
    )
    write_store(tmp_path)
    digest = read_facts("figures", tmp_path).digest
    for name in config.studies:
        for run in runs(config, name):
            write_run(tmp_path, run, digest)
    write_report(config, tmp_path, tmp_path / "report" / "index.html", progress=lambda line: None)
    page = (tmp_path / "report" / "index.html").read_text()
    contents = re.findall(r'<a href="#[\w-]+">(.*?)</a>', page)
    assert len(set(contents)) == len(contents)
    assert {"Dynamic Training · Experiment 3: replicates", "Architectures · Experiment 3: hyper-parameters"} < set(
        contents
    )
    assert "<h2>Architectures · Experiment 3: hyper-parameters</h2>" in page


def test_every_table_and_figure_has_its_files(everything: Path, read_tables: Callable[..., Any]) -> None:
    tables = read_tables(everything / "index.html")
    assert {path.stem for path in (everything / "tables").iterdir()} == set(tables)
    assert all(len(pd.read_csv(everything / "tables" / f"{name}.csv")) for name in tables)
    figures = {path.stem for path in (everything / "figures").iterdir()}
    assert {
        "dynamic-grid-accuracy",
        "dynamic-grid-time",
        "dynamic-curves-paper",
        "dynamic-robustness-holdout",
    } <= figures
    for name in figures:
        ET.parse(everything / "figures" / f"{name}.svg")
        assert (everything / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


ONE_ROW = {"dynamic": {"comparison": {"trials": [{"strategy": {"name": "full"}}]}}}


@pytest.mark.parametrize(
    ("parts", "experiments"),
    [
        (["grid"], {"grid"}),
        (["single comparison"], {"comparison"}),
        ([ONE_ROW], {"comparison"}),
        (["robustness"], {"robustness"}),
        (["grid", "robustness", "both protocols"], {"grid", "robustness"}),
    ],
)
def test_experiments_that_were_not_run_show_what_was_published(
    synthesise: Synthesise, read_tables: Callable[..., Any], parts: list[Any], experiments: set[str]
) -> None:
    page = write(synthesise, *parts) / "index.html"
    tables = read_tables(page)
    sections = page.read_text().split('<section id="dynamic-')
    for experiment in ("grid", "comparison", "robustness"):
        (section,) = (text for text in sections if text.startswith(f'{experiment}">'))
        not_run = experiment not in experiments
        assert ("This report holds no such Runs." in section) == not_run
        # The published figures alone: of both papers, or of the one that has them. A grid is of one paper's scheme.
        assert (f"dynamic-{experiment}" in tables) == (not_run or experiment == "grid")
    if "grid" not in experiments:
        assert tables["dynamic-grid"][1][1:4] == ["paper a", "82.1 | 1,948 s", "82.5 | 1,934 s"]
        assert len(tables["dynamic-grid"]) == 1 + 3 * 2
    if "comparison" not in experiments:
        told = ["84.55", "–", "1,994", "–", "200", "–"]
        assert tables["dynamic-comparison"][3] == ["dynamic half, base", "not run", *told]
        assert tables["dynamic-comparison"][4][2:4] == ["84.85", "83.99"]
    if "robustness" not in experiments:
        assert tables["dynamic-robustness"][1] == ["dynamic half, best-set", "not run", "85.20", "80"]


def test_an_unpublished_scale_is_said_so(synthesise: Synthesise) -> None:
    text = (write(synthesise, "single comparison") / "index.html").read_text()
    assert "The setting differs from the published one: the data set figures instead of CIFAR-10" in text
    assert "120 training images instead of 50,000; 60 test images instead of 10,000; 8 epochs instead of 200" in text
    assert "8 epochs instead of 200; batches of 64 instead of 512. Measured" in text


def test_the_published_data_set_at_another_scale_is_said_so(synthesise: Synthesise) -> None:
    text = (write(synthesise, "grid", classes=CIFAR) / "index.html").read_text()
    assert "The setting differs from the published one: images of 8 × 8, grey; 120 training images instead of" in text
    assert "Accuracy in percent. All panels share one colour scale." in text


@pytest.mark.usefixtures("drawn")
def test_skipped_images_and_names_are_shown_as_text(synthesise: Synthesise) -> None:
    classes = ["<b>bold</b>", "b", "c"]
    text = (
        write(synthesise, "single comparison", classes=classes, skipped={"a/<x>.jpg": "truncated"}) / "index.html"
    ).read_text()
    assert "&lt;b&gt;bold&lt;/b&gt;" in text and "<b>bold" not in text
    assert "left out, 1: a/&lt;x&gt;.jpg (truncated)." in text


def test_the_configuration_can_be_read_back(synthesise: Synthesise) -> None:
    config, results, _ = synthesise("comparison")
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    shown = re.search("<pre>(.*?)</pre>", (results / "report" / "index.html").read_text(), re.DOTALL)
    assert shown and yaml.safe_load(shown[1].replace("&#39;", "'")) == config.model_dump(mode="json")


def test_the_commit_stands_among_the_versions(
    synthesise: Synthesise, read_tables: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pydyn.report.sections.versions", lambda: {"commit": "0123abcd", "python": "3.11.9"})
    rows = read_tables(write(synthesise, "single comparison") / "index.html")["versions"][1:]
    assert rows == [["commit", "–", "0123abcd"], ["python", "3.11.9", "3.11.9"], ["torch", "2.11.0", "–"]]


def test_runs_that_were_moved_are_counted_and_named(synthesise: Synthesise) -> None:
    config, results, written = synthesise("comparison")
    runs = list(written)
    for run in runs[:7]:
        moved = replace(written[run], earlier_places=["CPU A, threads: 1", "CPU B, threads: 2"])
        write_summary(run.directory(results) / "summary.json", moved)
    output = results / "report" / "index.html"
    write_report(config, results, output, progress=lambda line: None)
    *_, warning = re.findall('<p class="warning">(.*?)</p>', output.read_text(), re.DOTALL)
    assert f"7 of {len(runs)} Runs were moved to another place on the way" in warning
    assert f"dynamic {runs[0].id}" in warning and "; and 2 more" in warning
    assert runs[7].id not in warning
    table = pd.read_csv(results / "report" / "tables" / "runs.csv", keep_default_na=False)
    assert sorted(table["earlier_places"]) == [""] * 5 + ["CPU A, threads: 1; CPU B, threads: 2"] * 7


def test_summaries_from_before_places_were_recorded_are_of_runs_that_stayed(synthesise: Synthesise) -> None:
    config, results, written = synthesise("comparison")
    for run in written:
        path = run.directory(results) / "summary.json"
        values = json.loads(path.read_text())
        del values["earlier_places"]
        path.write_text(json.dumps(values))
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    assert "were moved" not in (results / "report" / "index.html").read_text()


@pytest.mark.usefixtures("drawn_as_both")
def test_the_same_results_give_the_same_files(synthesise: Synthesise) -> None:
    config, results, _ = synthesise("comparison")
    contents = []
    for folder in ("one", "two"):
        write_report(config, results, results / folder / "index.html", progress=lambda line: None)
        files = sorted(path for path in (results / folder).rglob("*") if path.is_file() and path.suffix != ".html")
        contents.append([(path.relative_to(results / folder), path.read_bytes()) for path in files])
    assert contents[0] == contents[1]


def test_the_report_imports_no_torch() -> None:
    code = "import sys, pydyn.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
