"""Backbones: their names, what they give, where their weights come from, and what is refused."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pydyn.errors import DataError
from pydyn.models.backbones import build_backbone, load_backbone, state_digest
from pydyn.models.names import LITE0, TORCHVISION, Backbone

NAMED = {"resnet18": 512, "resnet50": 2048, "densenet121": 1024, "mobilenet_v3_large": 1280, "mobilenet_v3_small": 1024}


def test_every_classification_model_of_torchvision_is_known():
    from torchvision import models

    listed = models.list_models(module=models)
    assert [name for name in listed if not name.startswith("squeezenet")] == TORCHVISION


def test_names_import_no_torch():
    code = "import sys, pydyn.models.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [*NAMED, "googlenet", "vit_b_32"])
def test_features_are_the_last_layers_input(name):
    from torchvision import models

    backbone = load_backbone(Backbone(name, "none"))
    assert backbone.n_features == NAMED.get(name, backbone.n_features)
    auxiliary = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    whole = models.get_model(name, weights=None, **auxiliary).eval()
    whole.load_state_dict(backbone.network.state_dict(), strict=False)
    last = [module for module in whole.modules() if isinstance(module, nn.Linear)][-1]
    seen = []
    last.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    size = backbone.preprocessing.size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole(images)
        features = backbone.network(images)
    assert features.shape == (2, backbone.n_features)
    torch.testing.assert_close(features, seen[0].flatten(1))


def test_what_weights_were_evaluated_with_comes_from_their_own_description():
    from torchvision import models

    for name in ("resnet50", "mobilenet_v3_large", "efficientnet_b1", "vit_b_32"):
        described = models.get_model_weights(name).DEFAULT.transforms()
        found = load_backbone(Backbone(name, "none")).preprocessing
        assert (found.size, found.interpolation) == (described.crop_size[0], described.interpolation.value)
        assert (found.mean, found.std) == (tuple(described.mean), tuple(described.std))
    assert load_backbone(Backbone("resnet18", "none", 96)).preprocessing.size == 96


def test_random_weights_depend_on_the_seed_alone_and_leave_the_global_generator():
    state = torch.random.get_rng_state()
    one, same, other = (load_backbone(Backbone("mobilenet_v3_small", "none"), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.digest == same.digest != other.digest
    assert not any(parameter.requires_grad for parameter in one.network.parameters())
    assert not one.network.training


def test_real_weights_that_install_with_pip():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra `offline` is not installed")
    backbone = load_backbone(Backbone(LITE0))
    assert backbone.n_features == 1280
    assert backbone.preprocessing.size == 224
    assert sum(isinstance(module, nn.BatchNorm2d) for module in backbone.network.modules()) == 49
    # (x - 127) / 128 of bytes.
    assert backbone.preprocessing.mean[0] * 255 == pytest.approx(127)
    assert backbone.preprocessing.std[0] * 255 == pytest.approx(128)
    # Trained, not random: of smooth and of noisy images it thinks differently, of two noisy ones alike.
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, 224, 224, generator=draw)
    smooth = torch.linspace(-1, 1, 224).expand(1, 3, 224, 224)
    with torch.no_grad():
        features = nn.functional.normalize(backbone.network(torch.cat([noise, smooth])))
    assert features[0] @ features[1] > 0.9
    assert features[0] @ features[2] < 0.5


def test_timms_models_where_it_is_installed():
    pytest.importorskip("timm", reason="timm is not installed")
    backbone = load_backbone(Backbone("timm/resnet10t", "none"))
    size = backbone.preprocessing.size
    with torch.no_grad():
        assert backbone.network(torch.zeros(1, 3, size, size)).shape == (1, backbone.n_features)
    with pytest.raises(DataError, match=r"backbone 'timm/no-such-model': timm .* does not know it"):
        load_backbone(Backbone("timm/no-such-model", "none"))


@pytest.mark.parametrize("form", ["safetensors", "state dict", "checkpoint", "parallel"])
def test_weights_from_files(tmp_path, form):
    network, _ = build_backbone("mobilenet_v3_small", 5)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    path = tmp_path / ("mine.safetensors" if form == "safetensors" else "mine.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "parallel":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    else:
        # With the layer that is taken off, as people save it.
        state["classifier.3.weight"] = torch.zeros(7, 1024)
        torch.save({"state_dict": state, "epoch": 3} if form == "checkpoint" else state, path)
    loaded = load_backbone(Backbone("mobilenet_v3_small", str(path)))
    assert loaded.digest == state_digest(network.state_dict())
    assert loaded.origin == str(path)


def test_files_that_do_not_fit_are_refused(tmp_path):
    network, _ = build_backbone("mobilenet_v3_small", 5)
    state = network.state_dict()
    first, second = list(state)[:2]

    def refused(values, message):
        torch.save(values, tmp_path / "mine.pth")
        with pytest.raises(DataError, match=message):
            load_backbone(Backbone("mobilenet_v3_small", str(tmp_path / "mine.pth")))

    refused({name: value for name, value in state.items() if name != first}, f"lacks 1 of the network's .* {first}")
    refused({**state, second: torch.zeros(3)}, f"has in another shape 1 of .* {second}")
    spoilt = state[first].clone()
    spoilt.view(-1)[0] = float("nan")
    refused({**state, first: spoilt}, f"holds NaN or infinity in {first}")
    refused([1, 2], "holds no state dict")
    refused(network, "not readable as safetensors or as a state dict of tensors alone")
    (tmp_path / "mine.pth").write_bytes(b"no such thing")
    with pytest.raises(DataError, match=r"mine\.pth: not readable"):
        load_backbone(Backbone("mobilenet_v3_small", str(tmp_path / "mine.pth")))
    with pytest.raises(DataError, match=r"gone\.pth: no such file"):
        load_backbone(Backbone("mobilenet_v3_small", str(tmp_path / "gone.pth")))


def test_weights_that_cannot_be_downloaded_say_what_to_do(monkeypatch, tmp_path):
    from urllib.error import URLError

    def fails(*arguments, **options):
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    with pytest.raises(DataError, match=r"cannot be brought \(<urlopen error no route>\).*use efficientnet_lite0"):
        load_backbone(Backbone("resnet18"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "resnet19"}, "backbone 'resnet19' is unknown, allowed are efficientnet_lite0"),
        ({"name": "squeezenet1_0"}, "is unknown"),
        ({"name": "resnet18", "weights": ""}, "must be imagenet, none or a file"),
        ({"name": "resnet18", "input_size": 8}, "input_size = 8 must be from 32 to 1024"),
    ],
)
def test_wrong_declarations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Backbone(**values)


def test_labels_name_what_differs():
    assert Backbone("resnet18").label == "resnet18-imagenet"
    assert Backbone("timm/vit_tiny", "weights/mine.pth", 96).label == "timm-vit_tiny-mine-96px"
