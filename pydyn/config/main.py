"""The whole configuration: from YAML files to one immutable object, or one clear line for each mistake."""

import difflib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import StringConstraints, ValidationError, field_validator, model_validator
from pydantic.json_schema import GenerateJsonSchema

from pydyn.config.architectures import ArchitecturesStudy
from pydyn.config.base import Count, Listed, Section
from pydyn.config.datasets import AnyDataset
from pydyn.config.frugal import FrugalStudy
from pydyn.config.shapes import ShapesStudy
from pydyn.config.studies import DynamicStudy
from pydyn.errors import ConfigError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
MOST_BITS = 1024
"""Of a whole number, written as 0xFF for example: Python writes none of more than some thousand digits."""
MOST_VALUES = 100_000
NAME_RULE = "data sets have letters, digits, '.', '_' and '-', folders of results no braces or control characters"


class Config(Section):
    """Everything a workflow needs to know. Keys at the top level may also be given by `--config key=value`."""

    studies: Listed[Literal["dynamic", "frugal", "architectures", "shapes"]]
    """Which sections below to run."""
    results: Annotated[str, StringConstraints(pattern=r"^[^{}\x00-\x1f]*[^{}\x00-\x20][^{}\x00-\x1f]*$")] = "results"
    """Where everything is written, relative to the working directory."""
    data_root: str = "."
    """What paths of data sets are relative to."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    """Of one training job. Several jobs of one thread train faster than one job of several (docs/speed.md)."""
    chunk_images: Count = 20_000
    """Runs are trained in one process until they add up to this many images: starting torch costs seconds."""
    datasets: dict[Name, AnyDataset]
    dynamic: DynamicStudy | None = None
    frugal: FrugalStudy | None = None
    architectures: ArchitecturesStudy | None = None
    shapes: ShapesStudy | None = None

    @field_validator("results", "data_root")
    @classmethod
    def _at_home(cls, folder: str) -> str:
        # As `path` of a data set: no shell sees what a file says, and a folder called `~` is nobody's wish.
        return os.path.expanduser(folder)  # noqa: PTH111 (an unknown ~user is a folder that is not there, not a crash)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for study in self.studies:
            section = getattr(self, study)
            if section is None:
                raise ValueError(f"studies names {study!r}, but there is no section `{study}`: add it")
            for key, name in section.named_datasets():
                if name not in self.datasets:
                    known = ", ".join(self.datasets) or "none"
                    raise ValueError(f"{study}.{key} = {name!r} is not declared, allowed are: {known}")
        return self


def load(*files: Path | str) -> Config:
    """Read and check YAML or JSON files, each laid over the ones before. Raises ConfigError."""
    return parse(read(*files))


def load_of_results(*files: Path | str) -> Config:
    """As `load`, for what reads or writes results.

    Raises ConfigError also for a `config.json` that a workflow left in another folder than the one it names.
    """
    config = load(*files)
    for file in map(Path, files):
        folder = file.resolve().parent
        if file.name == "config.json" and (folder / "plan.json").is_file() and folder != Path(config.results).resolve():
            raise ConfigError(
                f"{file}: results = {config.results!r} is from here not the folder that this file lies in, which was moved or "
                "copied, or belongs to another working directory; lay a file over it that says which you mean, as "
                f"`results: {folder}`"
            )
    return config


def read(*files: Path | str) -> dict[str, Any]:
    """Read YAML or JSON files, each laid over the ones before (mappings merge deeply, lists replace)."""
    merged: dict[str, Any] = {}
    for file in files:
        try:
            text = Path(file).read_text(encoding="utf-8")
            # JSON is not YAML 1.1: that reads 5e-05 as text.
            is_json = Path(file).suffix == ".json"
            content = json.loads(text, object_pairs_hook=_once_each) if is_json else yaml.load(text, _Careful)
        except OSError as error:
            raise ConfigError(
                f"{file}: cannot be read ({error.strerror}); name a configuration file that exists"
            ) from None
        except _RefusedError as error:
            raise ConfigError(f"{file}: {error}") from None
        # The last two are what tags such as `!!bool maybe` end in.
        except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError) as error:
            raise ConfigError(f"{file}: is not YAML or JSON: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{file}: holds {type(content).__name__}, allowed is a mapping of keys to values")
        merged = overlay(merged, content)
    return merged


class _RefusedError(Exception):
    """YAML that is read by others, but not here."""


class _Careful(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping: YAML's libraries, Snakemake's among them, drop the first without a word.

    And aliases of aliases, of which a few lines stand for more values than any memory holds.
    """

    def get_single_node(self) -> yaml.Node | None:
        """The document."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _n_values(node, {}) > MOST_VALUES:
            raise _RefusedError(f"its aliases stand for more than {MOST_VALUES:,} values; write out what is meant")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Before `<<` brings in other mappings, whose keys a mapping's own may replace."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise _RefusedError(
                    f"has the key {key.value!r} in line {lines[key.value]} and again in line {line}, of which only the last "
                    "would count; make one of them"
                )
            lines[key.value] = line
        return node


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of JSON. Refuses a key that stands twice, as `_Careful`."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        doubled = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise _RefusedError(
            f"has the key {doubled!r} twice in one mapping, of which only the last would count; make one of them"
        )
    return mapping


def _n_values(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """How many values there are where each alias is written out: infinitely many, of what holds itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if node not in known:
        known[node] = math.inf
        parts = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[node] = 1 + sum(_n_values(part, known) for part in parts)
    return known[node]


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, as Snakemake does with `--configfile`."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = overlay(below, value) if both else value  # type: ignore[arg-type]
    return merged


def parse(raw: Mapping[str, Any]) -> Config:
    """Check a configuration and give it types. Raises ConfigError with a line for each mistake: key, value, what is allowed."""
    _check_kinds(raw, "configuration")
    try:
        # By way of JSON: in that mode pydantic is strict about types and yet takes a list for a tuple.
        return Config.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        raise ConfigError("\n".join(_mistakes(error, raw))) from None


def _check_kinds(value: Any, key: str) -> None:
    """YAML also holds dates, binary data and keys that are no text; a command line, names of files that are no Unicode."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not isinstance(name, str):
                raise ConfigError(f"{key}: has the key {name!r}, which YAML does not read as text; write it in quotes")
            _check_kinds(part, name if key == "configuration" else f"{key}.{name}")
    elif isinstance(value, list):
        for position, part in enumerate(value):
            _check_kinds(part, f"{key}[{position}]")
    elif isinstance(value, str) and value != value.encode("utf-8", "replace").decode():
        raise ConfigError(f"{key} = {value!r}: is no Unicode text; rename what it names")
    elif isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ConfigError(f"{key}: is a number of {value.bit_length()} bits, allowed are {MOST_BITS} at most")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ConfigError(f"{key} = {value}; YAML reads it as a {type(value).__name__}; write text in quotes")


def json_schema() -> dict[str, Any]:
    """The JSON schema of the configuration, as it stands in `workflow/schemas/`."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **Config.model_json_schema()}


def _mistakes(error: ValidationError, raw: Mapping[str, Any]) -> list[str]:
    lines: dict[str, str] = {}
    for item in error.errors(include_url=False):
        names_a_key = item["type"] in ("extra_forbidden", "unexpected_keyword_argument", "missing")
        key = _key(item["loc"], raw, names_a_key)
        line = _describe(key, item)
        # A value that fits none of several types is one mistake.
        lines[key] = f"{lines[key]} or {line.rpartition('; ')[2]}" if key in lines else line
    return list(lines.values())


def _describe(key: str, item: Any) -> str:
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key}: unknown key{_did_you_mean(key)}; remove it or correct its name"
    if kind == "missing":
        return f"{key}: missing; add it"
    if kind == "string_pattern_mismatch":
        return f"{key}: the name {value!r} is not allowed; {NAME_RULE}"
    if kind == "value_error":
        return f"{key or 'configuration'}: {context['error']}"
    message = item["msg"].replace("Input should be", "must be").replace("Input tag", "tag")
    hint = (
        " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)"
        if isinstance(value, str) and "e" in value and _is_number(value)
        else ""
    )
    return f"{key} = {value!r}; {message[0].lower()}{message[1:]}{hint}"


def _key(location: Sequence[int | str], raw: Any, names_a_key: bool) -> str:
    """The path of a mistake as the user wrote it: without the tags that pydantic adds for unions."""
    parts: list[str] = []
    for position, part in enumerate(location):
        if isinstance(part, int) and isinstance(raw, list):
            parts[-1] += f"[{part}]"
            raw = raw[part] if part < len(raw) else None
        elif isinstance(raw, Mapping) and (part in raw or (names_a_key and position == len(location) - 1)):
            parts.append(str(part))
            raw = raw.get(part)
    return ".".join(parts)


def _did_you_mean(key: str) -> str:
    written = key.rpartition(".")[2]
    close = difflib.get_close_matches(written, sorted(_all_keys() - {written}), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


@cache
def _all_keys() -> set[str]:
    return _known_keys(Config.model_json_schema())


def _known_keys(schema: Any) -> set[str]:
    keys = set(schema.get("properties", {}))
    for definition in schema.get("$defs", {}).values():
        keys |= _known_keys(definition)
    return keys


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
