rule adapt_backbone:
    input:
        store=lambda wildcards: PLAN.store(PLAN.features[wildcards.features].dataset),
        weights=lambda wildcards: backbone_file(
            PLAN.features[wildcards.features].backbone
        ),
    output:
        adapted=f"{FEATURES}/{{features}}/adapted.safetensors",
    log:
        f"{RESULTS}/logs/frugal/adapt/{{features}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/frugal/adapt/{{features}}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=memory(3500),
        runtime=minutes(30),
        gpu=int(USES_GPU),
    params:
        config=CONFIG,
        features=described_features,
        country=lambda wildcards: PLAN.config.frugal.country,  # of the emissions that are read
        code=code_digest("pydyn.features.jobs"),
    message:
        "Adapting {wildcards.features}"
    shell:
        "exec pydyn features adapt --config {params.config:q} --output {output.adapted:q} {wildcards.features:q} "
        "> >(trap '' TERM INT; exec tee {log:q}) 2>&1"


rule extract_features:
    input:
        store=lambda wildcards: PLAN.store(PLAN.features[wildcards.features].dataset),
        adapted=adapted_backbone,
        weights=lambda wildcards: backbone_file(
            PLAN.features[wildcards.features].backbone
        ),
    output:
        shard=f"{FEATURES}/{{features}}/shard-{{shard}}-of-{{n_shards}}.h5",
    log:
        f"{RESULTS}/logs/frugal/extract/{{features}}/{{shard}}-of-{{n_shards}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/frugal/extract/{{features}}/{{shard}}-of-{{n_shards}}.tsv"
    wildcard_constraints:
        shard=r"\d+",
        n_shards=r"\d+",
    threads: PLAN.config.threads
    resources:
        mem_mb=memory(3500),
        runtime=minutes(60),
        gpu=int(USES_GPU),
    params:
        config=CONFIG,
        features=described_features,
        country=lambda wildcards: PLAN.config.frugal.country,  # of the emissions that are read
        code=code_digest("pydyn.features.jobs"),
    message:
        "Extracting {wildcards.features}, shard {wildcards.shard} of {wildcards.n_shards} from 0"
    shell:
        "exec pydyn features extract --config {params.config:q} --output {output.shard:q} --shard {wildcards.shard} "
        "{wildcards.features:q} > >(trap '' TERM INT; exec tee {log:q}) 2>&1"


# A second's work, on a few kilobytes: not worth a job of a scheduler's.
localrules:
    join_features,


rule join_features:
    input:
        store=lambda wildcards: PLAN.store(PLAN.features[wildcards.features].dataset),
        shards=lambda wildcards: [
            f"{FEATURES}/{wildcards.features}/shard-{shard}-of-{SHARDS}.h5"
            for shard in range(SHARDS)
        ],
    output:
        features=f"{FEATURES}/{{features}}/features.h5",
    log:
        f"{RESULTS}/logs/frugal/join/{{features}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/frugal/join/{{features}}.tsv"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        config=CONFIG,
        code=code_digest("pydyn.features.store"),
    message:
        "Joining {wildcards.features}"
    shell:
        "exec pydyn features join --config {params.config:q} --output {output.features:q} {wildcards.features:q} "
        "> >(trap '' TERM INT; exec tee {log:q}) 2>&1"


rule train_heads:
    input:
        store=lambda wildcards: PLAN.store(HEADS[f"heads__{wildcards.chunk}"].dataset),
        features=lambda wildcards: features_of(f"heads__{wildcards.chunk}"),
    output:
        done=f"{RESULTS}/frugal/chunks/heads__{{chunk}}.json",
    log:
        f"{RESULTS}/logs/frugal/heads/{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/frugal/heads/{{chunk}}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=memory(2500, per_input=4),
        runtime=minutes(60),
        gpu=int(USES_GPU),
    params:
        config=CONFIG,
        runs=lambda wildcards: [
            f"--run={run.id}" for run in HEADS[f"heads__{wildcards.chunk}"].runs
        ],
        digests=lambda wildcards: [
            run.digest for run in HEADS[f"heads__{wildcards.chunk}"].runs
        ],
        code=heads_digest(),
    message:
        "Training heads on {wildcards.chunk}"
    shell:
        "exec pydyn train --config {params.config:q} --done {output.done:q} {params.runs:q} frugal > >(trap '' TERM INT; exec tee {log:q}) 2>&1"


rule fine_tune:
    input:
        store=lambda wildcards: PLAN.store(
            FINE_TUNINGS[f"fine-tuning__{wildcards.chunk}"].dataset
        ),
        weights=lambda wildcards: backbone_file(
            FINE_TUNINGS[f"fine-tuning__{wildcards.chunk}"].runs[0].backbone
        ),
    output:
        done=f"{RESULTS}/frugal/chunks/fine-tuning__{{chunk}}.json",
    log:
        f"{RESULTS}/logs/frugal/fine-tuning/{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/frugal/fine-tuning/{{chunk}}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=memory(8000),
        runtime=minutes(240),
        gpu=int(USES_GPU),
    params:
        config=CONFIG,
        runs=lambda wildcards: [
            f"--run={run.id}"
            for run in FINE_TUNINGS[f"fine-tuning__{wildcards.chunk}"].runs
        ],
        digests=lambda wildcards: [
            run.digest + weights_state(run.backbone)
            for run in FINE_TUNINGS[f"fine-tuning__{wildcards.chunk}"].runs
        ],
        code=fine_tuning_digest(),
    message:
        "Fine-tuning {wildcards.chunk}"
    shell:
        "exec pydyn train --config {params.config:q} --done {output.done:q} {params.runs:q} frugal > >(trap '' TERM INT; exec tee {log:q}) 2>&1"
