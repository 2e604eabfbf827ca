# Marks of analyses and of populations share a folder: an analysis's name begins with `analysis__`.
rule train_populations:
    input:
        store=lambda wildcards: PLAN.store(POPULATIONS[wildcards.chunk].dataset),
    output:
        done=f"{RESULTS}/shapes/chunks/{{chunk}}.json",
    log:
        f"{RESULTS}/logs/shapes/{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/shapes/{{chunk}}.tsv"
    wildcard_constraints:
        chunk=r"(?!analysis__).+",
    threads: PLAN.config.threads
    resources:
        mem_mb=memory(1500, per_input=10),
        runtime=minutes(60),
        gpu=int(USES_GPU),
    params:
        config=CONFIG,
        runs=lambda wildcards: [
            f"--run={run.id}" for run in POPULATIONS[wildcards.chunk].runs
        ],
        digests=lambda wildcards: [
            run.digest for run in POPULATIONS[wildcards.chunk].runs
        ],
        code=populations_digest(),
    message:
        "Training populations of {wildcards.chunk}"
    shell:
        "exec pydyn train --config {params.config:q} --done {output.done:q} {params.runs:q} shapes > >(trap '' TERM INT; exec tee {log:q}) 2>&1"


rule analyse_filters:
    input:
        store=lambda wildcards: PLAN.store(
            ANALYSES[f"analysis__{wildcards.chunk}"].dataset
        ),
        population=population_of,
    output:
        done=f"{RESULTS}/shapes/chunks/analysis__{{chunk}}.json",
    log:
        f"{RESULTS}/logs/shapes/analysis/{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/shapes/analysis/{{chunk}}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=memory(2000),
        runtime=minutes(20),
        gpu=int(USES_GPU),
    params:
        config=CONFIG,
        runs=lambda wildcards: [
            f"--run={run.id}" for run in ANALYSES[f"analysis__{wildcards.chunk}"].runs
        ],
        digests=lambda wildcards: [
            run.digest for run in ANALYSES[f"analysis__{wildcards.chunk}"].runs
        ],
        code=analyses_digest(),
    message:
        "Analysing filters of {wildcards.chunk}"
    shell:
        "exec pydyn train --config {params.config:q} --done {output.done:q} {params.runs:q} shapes > >(trap '' TERM INT; exec tee {log:q}) 2>&1"
