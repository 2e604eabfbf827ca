HEADS = {
    name: chunk
    for name, chunk in PLAN.chunks.get("frugal", {}).items()
    if name.startswith("heads__")
}
FINE_TUNINGS = {
    name: chunk
    for name, chunk in PLAN.chunks.get("frugal", {}).items()
    if name not in HEADS
}
FEATURES = f"{RESULTS}/frugal/features"
SHARDS = PLAN.config.frugal.extraction.shards if PLAN.config.frugal else 1


def backbone_file(backbone):
    """Weights that a file holds: Snakemake sees when it changes."""
    return [] if backbone.weights in ("imagenet", "none") else [backbone.weights]


def described_features(wildcards):
    """What features depend on, with the state of a file of weights."""
    features = PLAN.features[wildcards.features]
    return json.dumps(features.to_dict()) + weights_state(features.backbone)


def adapted_backbone(wildcards):
    adapted = PLAN.features[wildcards.features].adaptation is not None
    return [f"{FEATURES}/{wildcards.features}/adapted.safetensors"] if adapted else []


def features_of(chunk):
    folder = f"{FEATURES}/{HEADS[chunk].runs[0].features.id}"
    shards = [f"{folder}/shard-{shard}-of-{SHARDS}.h5" for shard in range(SHARDS)]
    return [f"{folder}/features.h5", *shards]
