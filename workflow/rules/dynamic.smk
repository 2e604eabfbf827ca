CHUNKS = PLAN.chunks.get("dynamic", {})


# A job trains a chunk of Runs. Their folders are not declared: they hold checkpoints and complete Runs that a failed job must not
# lose. The chunk's file says that all are complete.
rule train_dynamic:
    input:
        store=lambda wildcards: PLAN.store(CHUNKS[wildcards.chunk].dataset),
    output:
        done=f"{RESULTS}/dynamic/chunks/{{chunk}}.json",
    log:
        f"{RESULTS}/logs/dynamic/{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/dynamic/{{chunk}}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=3000,
        gpu=int(USES_GPU),
    params:
        config=CONFIG,
        runs=lambda wildcards: [
            f"--run={run.id}" for run in CHUNKS[wildcards.chunk].runs
        ],
        digests=lambda wildcards: [run.digest for run in CHUNKS[wildcards.chunk].runs],
        code=code_digest("pydyn.training.execute"),
    message:
        "Training {wildcards.chunk}"
    shell:
        "pydyn train --config {params.config} --done {output.done} {params.runs} dynamic 2>&1 | tee {log}"
