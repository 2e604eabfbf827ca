rule prepare:
    input:
        source=source_files,
    output:
        store=f"{RESULTS}/data/{{dataset}}.h5",
    log:
        f"{RESULTS}/logs/prepare/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare/{{dataset}}.tsv"
    threads: 2
    resources:
        mem_mb=memory(1000),
        runtime=minutes(20),
    params:
        config=CONFIG,
        declaration=lambda wildcards: PLAN.config.datasets[
            wildcards.dataset
        ].model_dump_json(),
        state=lambda wildcards: source_state(
            PLAN.config.datasets[wildcards.dataset], Path(PLAN.config.data_root)
        ),
        code=code_digest("pydyn.data.prepare"),
    message:
        "Bringing data set {wildcards.dataset} into an image store"
    shell:
        "exec pydyn prepare --config {params.config:q} --output {output.store:q} --threads {threads} {wildcards.dataset} "
        "> >(trap '' TERM INT; exec tee {log:q}) 2>&1"
