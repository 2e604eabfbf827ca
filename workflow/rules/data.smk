def source_files(wildcards):
    """An archive is an input; of a folder the rule's params hold the state."""
    dataset = PLAN.config.datasets[wildcards.dataset]
    if dataset.source == "archive":
        return dataset.resolve(Path(PLAN.config.data_root)).as_posix()
    return []


rule prepare:
    input:
        config=ancient(CONFIG),
        source=source_files,
    output:
        store=f"{RESULTS}/data/{{dataset}}.h5",
    log:
        f"{RESULTS}/logs/prepare/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare/{{dataset}}.tsv"
    threads: 2
    resources:
        mem_mb=1000,
    params:
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
        "pydyn prepare --config {input.config} --output {output.store} {wildcards.dataset} 2>&1 | tee {log}"
