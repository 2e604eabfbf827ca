"""`pydyn VERB`: what the workflow's rules call, and a person too. Heavy imports wait until a verb needs them."""

import json
import sys
from pathlib import Path
from typing import NoReturn

import click

from pydyn.errors import PydynError, RunError
from pydyn.files import write_text

CONFIG = click.option(
    "--config",
    "config_files",
    type=click.Path(path_type=Path),
    multiple=True,
    default=["config.yaml"],
    show_default=True,
    help="Configuration file; repeat to lay presets over it.",
)


def main() -> None:
    """Run a verb; show a user's mistake as one line, without a traceback."""
    try:
        cli(prog_name="pydyn")
    except PydynError as error:
        _fail(str(error), error.status)
    except OSError as error:
        # Of the system and not of a program: a full disk, a folder in place of a file.
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}")


def _fail(line: str, status: int = 1) -> NoReturn:
    click.echo(f"pydyn: error: {line}", err=True)
    sys.exit(status)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pydyn")
def cli() -> None:
    """Data-efficient CNN training: prepare data, train Runs, report beside published figures."""


@cli.command()
@CONFIG
def check(config_files: tuple[Path, ...]) -> None:
    """Check a configuration and list what it would train."""
    from pydyn.config.main import read
    from pydyn.plan import make_plan

    plan = make_plan(read(*config_files))
    for study, chunks in plan.chunks.items():
        n_runs = sum(len(chunk.runs) for chunk in chunks.values())
        click.echo(f"{study}: {n_runs} Runs in {len(chunks)} jobs")
        for chunk in chunks.values():
            for run in chunk.runs:
                click.echo(f"  {run.id}")


@cli.command()
@CONFIG
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The image store to write (HDF5).")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="That decode images.")
@click.argument("dataset")
def prepare(config_files: tuple[Path, ...], output: Path, threads: int, dataset: str) -> None:
    """Bring a declared data set into an image store."""
    from pydyn.config.main import load
    from pydyn.data.prepare import prepare as prepare_store

    config = load(*config_files)
    if dataset not in config.datasets:
        raise PydynError(f"data set {dataset!r} is not declared, allowed are: {', '.join(config.datasets)}")
    prepare_store(dataset, config.datasets[dataset], Path(config.data_root), output, threads)


@cli.command()
@CONFIG
@click.option("--run", "ids", multiple=True, required=True, help="Id of a Run (`pydyn check` lists them); may repeat.")
@click.option("--done", type=click.Path(path_type=Path), help="File to write when all these Runs are complete.")
@click.argument("study")
def train(config_files: tuple[Path, ...], ids: tuple[str, ...], done: Path | None, study: str) -> None:
    """Train Runs of a study, skipping those complete and resuming those begun.

    On SIGTERM, which schedulers send when time is up, the epoch in progress is finished and saved; the exit status is then 75
    (try again), and the same command goes on from there.
    """
    from pydyn.config.main import load
    from pydyn.device import open_device
    from pydyn.studies.registry import runs
    from pydyn.training.execute import execute
    from pydyn.training.stopping import asked_to_stop

    config = load(*config_files)
    if study not in config.studies:
        raise RunError(f"study {study!r} is not chosen, allowed are: {', '.join(config.studies)}")
    listed = {run.id: run for run in runs(config, study)}
    unknown = [run_id for run_id in ids if run_id not in listed]
    if unknown:
        raise RunError(f"Run {unknown[0]!r} is not in the study {study}; `pydyn check` lists its Runs")
    chosen = [listed[run_id] for run_id in ids]
    results = Path(config.results)
    device = open_device(config.device, config.threads)
    with asked_to_stop() as stop:
        for dataset in dict.fromkeys(run.dataset for run in chosen):
            store = results / "data" / f"{dataset}.h5"
            execute([run for run in chosen if run.dataset == dataset], results, store, device, _say, stop)
    if done:
        write_text(
            done, json.dumps({"runs": [{"id": run.id, "digest": run.digest} for run in chosen]}, indent=2) + "\n"
        )


@cli.command()
@CONFIG
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The page to write (HTML).")
def report(config_files: tuple[Path, ...], output: Path) -> None:
    """Write the report: measured figures beside published ones."""
    from pydyn.config.main import load
    from pydyn.report.page import write_report

    config = load(*config_files)
    write_report(config, Path(config.results), output, progress=_say)


@cli.command()
@CONFIG
@click.option("--data-root", type=click.Path(path_type=Path), multiple=True, help="A folder of data sets; may repeat.")
def doctor(config_files: tuple[Path, ...], data_root: tuple[Path, ...]) -> None:
    """Say what was built, what was found, and what to do about what is missing."""
    from pydyn.config.main import load
    from pydyn.doctor import report as diagnosis

    config = load(*config_files) if all(file.exists() for file in config_files) else None
    click.echo(diagnosis(data_root, config))


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("snakemake_arguments", nargs=-1, type=click.UNPROCESSED)
def reproduce(snakemake_arguments: tuple[str, ...]) -> None:
    """Run the workflow, recovering by itself from a killed one. Arguments go to Snakemake."""
    from pydyn.workflow import reproduce as run_workflow

    sys.exit(run_workflow(snakemake_arguments))


@cli.command()
def schema() -> None:
    """Print the configuration's JSON schema."""
    from pydyn.config.main import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def _say(line: str) -> None:
    click.echo(line)
