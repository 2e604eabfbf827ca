"""`pydyn VERB`: what the workflow's rules call, and a person too. Heavy imports wait until a verb needs them."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click

from pydyn.errors import PydynError, RunError
from pydyn.files import in_a_line, write_text

if TYPE_CHECKING:
    from pydyn.config.main import Config
    from pydyn.studies.frugal_runs import FeatureSet

CONFIG = click.option(
    "--config",
    "config_files",
    type=click.Path(path_type=Path),
    multiple=True,
    default=["config.yaml"],
    show_default=True,
    help="Configuration file; repeat to lay presets over it.",
)


OUTPUT = click.option("--output", type=click.Path(path_type=Path), required=True, help="The file to write.")


def main() -> None:
    """Run a verb; show a user's mistake as one line, without a traceback."""
    try:
        cli(prog_name="pydyn")
    except PydynError as error:
        _fail(str(error), error.status)
    except OSError as error:
        _fail(in_a_line(error))


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
    from pydyn.config.main import load_of_results
    from pydyn.device import open_device
    from pydyn.studies.registry import runs
    from pydyn.training.dispatch import execute_any
    from pydyn.training.folder import fingerprint_in
    from pydyn.training.stopping import asked_to_stop

    config = load_of_results(*config_files)
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
            execute_any([run for run in chosen if run.dataset == dataset], results, store, device, _say, stop)
    if done:
        # With the fingerprints, so that the mark changes when code or data did: Snakemake compares small files by content.
        made = [{"id": run.id, "digest": run.digest, "fingerprint": fingerprint_in(run, results)} for run in chosen]
        write_text(done, json.dumps({"runs": made}, indent=2) + "\n")


@cli.group()
def features() -> None:
    """Features of a frozen backbone: adapt it, extract them in shards, join these. `pydyn check` lists what there is."""


@features.command()
@CONFIG
@OUTPUT
@click.argument("features_id")
def adapt(config_files: tuple[Path, ...], output: Path, features_id: str) -> None:
    """Adapt a backbone's batch normalisation to training images."""
    from pydyn.device import open_device
    from pydyn.features.jobs import adapt_backbone

    wanted = _features(config_files, features_id)
    device = open_device(wanted.config.device, wanted.config.threads)
    adapt_backbone(wanted.declared, wanted.store, output, device, wanted.country, _say)


@features.command()
@CONFIG
@OUTPUT
@click.option("--shard", type=click.IntRange(min=0), default=0, show_default=True, help="Which one, from 0.")
@click.argument("features_id")
def extract(config_files: tuple[Path, ...], output: Path, shard: int, features_id: str) -> None:
    """Write one shard of features."""
    from pydyn.device import open_device
    from pydyn.features.jobs import extract_shard

    wanted = _features(config_files, features_id)
    n_shards = wanted.shards
    if shard >= n_shards:
        raise PydynError(f"--shard {shard}: frugal.extraction.shards is {n_shards}, allowed are 0 to {n_shards - 1}")
    device = open_device(wanted.config.device, wanted.config.threads)
    extract_shard(wanted.declared, wanted.store, output, shard, n_shards, device, wanted.country)


@features.command()
@CONFIG
@OUTPUT
@click.argument("features_id")
def join(config_files: tuple[Path, ...], output: Path, features_id: str) -> None:
    """Join the shards that lie beside OUTPUT to a feature store."""
    from pydyn.features.store import join_shards

    wanted = _features(config_files, features_id)
    join_shards(wanted.store, output, wanted.shards)


class _Features(NamedTuple):
    declared: "FeatureSet"
    store: Path
    shards: int
    config: "Config"
    country: str


def _features(config_files: tuple[Path, ...], features_id: str) -> _Features:
    from pydyn.config.main import load_of_results
    from pydyn.studies.frugal import feature_sets

    config = load_of_results(*config_files)
    if config.frugal is None or "frugal" not in config.studies:
        raise RunError(f"study 'frugal' is not chosen, allowed are: {', '.join(config.studies)}")
    known = feature_sets(config)
    if features_id not in known:
        raise RunError(f"features {features_id!r} are not in the study, allowed are: {', '.join(known)}")
    store = Path(config.results) / "data" / f"{known[features_id].dataset}.h5"
    return _Features(known[features_id], store, config.frugal.extraction.shards, config, config.frugal.country)


@cli.command()
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The folder to write the model to.")
@click.option("--onnx", is_flag=True, help="Also as ONNX, checked against torch.")
@click.argument("run", type=click.Path(path_type=Path))
def export(output: Path, onnx: bool, run: Path) -> None:
    """Write the classifier of a Run of the study frugal, as `model.safetensors` and `model.json`.

    RUN is its folder, such as results/frugal/runs/mine/declared/efficientnet_lite0-imagenet/adapted-redesigned-weighted/seed0
    """
    from pydyn.deploy.export import ONNX
    from pydyn.deploy.export import export as export_run

    written = export_run(run, output, onnx)
    _say(
        f"{output}: {written.backbone} for {', '.join(written.class_names)}; test accuracy {written.test['accuracy']:.4f}"
    )
    if onnx and written.precision == "bf16":
        _say(
            f"{output / ONNX} computes in float32, `pydyn predict` in bfloat16, as the Run did: probabilities of images that "
            "the model is unsure of differ; with frugal.precision: fp32 they are alike"
        )


@cli.command()
@click.option("--output", type=click.Path(path_type=Path), help="CSV file to write; without it, the terminal.")
@click.option(
    "--ambiguous-below",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Margin of the two largest probabilities below which an image is called ambiguous.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
def predict(
    output: Path | None, ambiguous_below: float, device: str, threads: int, model: Path, images: tuple[Path, ...]
) -> None:
    """Classify images with a model that `pydyn export` wrote.

    MODEL is its folder; IMAGES are files, or folders that are searched through. Images that cannot be read are named in the
    column `problem`, and the exit status is then 1.
    """
    from pydyn.deploy.model_file import load_model
    from pydyn.deploy.predict import find_images, save_predictions
    from pydyn.device import open_device

    if output is not None and output.is_dir():
        raise PydynError(f"--output {output}: is a folder; name a file in it, as {output / 'predictions.csv'}")
    files = find_images(images)
    loaded = load_model(model)
    problems = save_predictions(output, loaded, files, open_device(device, threads).torch, ambiguous_below)
    if problems:
        first = problems[0]
        raise PydynError(
            f"{len(problems)} of {len(files)} images cannot be read, such as {first.image} ({first.problem}); the others are done"
        )


@cli.command()
@CONFIG
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The page to write (HTML).")
@click.option("--partial", is_flag=True, help="Leave out Runs that are missing, and say so on top of the page.")
def report(config_files: tuple[Path, ...], output: Path, partial: bool) -> None:
    """Write the report: measured figures beside published ones."""
    from pydyn.config.main import load_of_results
    from pydyn.report.page import write_report

    config = load_of_results(*config_files)
    write_report(config, Path(config.results), output, progress=_say, partial=partial)


@cli.command()
@click.argument("results", type=click.Path(path_type=Path), default="results")
def status(results: Path) -> None:
    """Say what of a workflow is complete, outdated, in work, failed and left, from the files in its folder RESULTS alone.

    Outdated is what came from another configuration, data or code than there are now: it will be made again. The estimate is of
    training time, one Run at a time, by the Runs that are complete or outdated.
    """
    from pydyn.status import describe, read_status

    click.echo(describe(*read_status(results)))


@cli.command()
@CONFIG
@click.option("--data-root", type=click.Path(path_type=Path), multiple=True, help="A folder of data sets; may repeat.")
@click.pass_context
def doctor(context: click.Context, config_files: tuple[Path, ...], data_root: tuple[Path, ...]) -> None:
    """Say what was built, what was found, and what to do about what is missing."""
    from pydyn.config.main import load
    from pydyn.doctor import report as diagnosis

    named = context.get_parameter_source("config_files") is not click.core.ParameterSource.DEFAULT
    config = load(*config_files) if named or all(file.exists() for file in config_files) else None
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
