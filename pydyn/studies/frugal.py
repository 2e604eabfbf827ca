"""The study `frugal`: pre-computed features with ambiguity-weighted heads, against fine-tuning."""

from collections.abc import Mapping, Sequence

from pydyn.config.frugal import FrugalStudy, Splits
from pydyn.config.main import Config
from pydyn.models.head_setting import HeadSetting
from pydyn.models.names import Backbone
from pydyn.seeding import numpy_generator
from pydyn.studies.chunks import Chunk
from pydyn.studies.frugal_runs import FeatureSet, FineTuningRun, FrugalRun, HeadRun
from pydyn.studies.pools import Pool


def datasets(config: Config) -> list[str]:
    """All that it is run on."""
    return _study(config).datasets


def experiments(config: Config) -> dict[str, list[FrugalRun]]:
    """The Runs of each experiment: `ablation` (1 and 2 of its heads), `fine-tuning` and `search` (3)."""
    study = _study(config)
    places = [
        (dataset, backbone, splits, seed)
        for dataset in study.datasets
        for backbone in study.backbones
        for splits in study.splits
        # Without groups a split is by image anyway.
        if splits == "declared" or "declared" not in study.splits or config.datasets[dataset].split.group is not None
        for seed in range(study.replicates)
    ]
    lists: dict[str, list[FrugalRun]] = {
        "ablation": [
            _heads(
                study,
                *place,
                adapted=adapted,
                settings=study.heads.settings(kind, weighted, place[3]),
                weighted=weighted,
            )
            for place in places
            for adapted in (False, True)
            for kind in ("linear", "redesigned")
            for weighted in (False, True)
        ]
    }
    if study.fine_tuning:
        lists["fine-tuning"] = [_fine_tuning(study, *place) for place in places]
    if study.search:
        # Costs do not depend on the draw: one replicate tells them.
        lists["search"] = [
            _heads(
                study,
                dataset,
                backbone,
                "declared",
                0,
                adapted=True,
                settings=drawn[:count],
                weighted=True,
                search=True,
            )
            for dataset in study.datasets
            for backbone in study.backbones
            for drawn in [draw_settings(study, max(study.search.combinations))]
            for count in study.search.combinations
        ]
    return lists


def feature_sets(config: Config) -> dict[str, FeatureSet]:
    """All features that the study's heads need, by id."""
    heads = [run for listed in experiments(config).values() for run in listed if isinstance(run, HeadRun)]
    return {run.features.id: run.features for run in heads}


def chunks(config: Config, pools: Mapping[str, Pool | None]) -> list[Chunk]:
    """All heads on one set of features are a chunk, each fine-tuning is one."""
    listed = list(dict.fromkeys(run for runs in experiments(config).values() for run in runs))
    by_features: dict[str, list[HeadRun]] = {}
    for run in listed:
        if isinstance(run, HeadRun):
            by_features.setdefault(run.features.id, []).append(run)
    found = [Chunk(f"heads__{_flat(name)}", tuple(runs)) for name, runs in by_features.items()]
    found += [Chunk(f"fine-tuning__{_flat(run.id)}", (run,)) for run in listed if isinstance(run, FineTuningRun)]
    return found


def draw_settings(study: FrugalStudy, count: int) -> list[HeadSetting]:
    """Settings of redesigned heads at random: rates and decays log-uniform, the rest uniform. More of them begin with fewer."""
    draw = numpy_generator(0, "frugal", "search")
    return [
        HeadSetting(
            kind="redesigned",
            learning_rate=float(10 ** draw.uniform(-4, -1.5)),
            weight_decay=float(10 ** draw.uniform(-5, 0)),
            strength=float(draw.uniform(0, 4)),
            power=float(draw.uniform(0.5, 4)),
            threshold=study.heads.threshold,
            normalisation=study.heads.normalisation,
            hidden=study.heads.hidden,
            dropout=float(draw.uniform(0, 0.7)),
            batch_size=study.heads.batch_size,
            seed=0,
        )
        for _ in range(count)
    ]


def _study(config: Config) -> FrugalStudy:
    assert config.frugal is not None, "Config refuses a study without its section"
    return config.frugal


def _heads(
    study: FrugalStudy,
    dataset: str,
    backbone: Backbone,
    splits: Splits,
    seed: int,
    *,
    adapted: bool,
    settings: Sequence[HeadSetting],
    weighted: bool,
    search: bool = False,
) -> HeadRun:
    features = FeatureSet(
        dataset=dataset,
        backbone=backbone,
        precision=study.precision,
        batch_size=study.extraction.batch_size,
        dtype=study.extraction.dtype,
        adaptation=study.adaptation if adapted else None,
        splits=splits if adapted else None,
        seed=seed if adapted else None,
    )
    return HeadRun(
        study="frugal",
        features=features,
        splits=splits,
        purpose="search" if search else "ablation",
        weighted=weighted,
        settings=tuple(settings),
        epochs=study.heads.epochs,
        patience=study.heads.patience,
        class_weights=study.class_weights,
        country=study.country,
        seed=seed,
    )


def _fine_tuning(study: FrugalStudy, dataset: str, backbone: Backbone, splits: Splits, seed: int) -> FineTuningRun:
    assert study.fine_tuning is not None
    return FineTuningRun(
        study="frugal",
        dataset=dataset,
        network=backbone,
        splits=splits,
        fine_tuning=study.fine_tuning,
        precision=study.precision,
        class_weights=study.class_weights,
        country=study.country,
        seed=seed,
    )


def _flat(name: str) -> str:
    return name.replace("/", "__")
