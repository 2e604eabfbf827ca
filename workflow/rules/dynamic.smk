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
        mem_mb=memory(2000, per_input=3),
        runtime=minutes(120),
        gpu=int(USES_GPU),
    params:
        config=CONFIG,
        runs=lambda wildcards: [
            f"--run={run.id}" for run in CHUNKS[wildcards.chunk].runs
        ],
        digests=lambda wildcards: [run.digest for run in CHUNKS[wildcards.chunk].runs],
        code=lambda wildcards: sorted(
            {
                training_digest(type(run.strategy))
                for run in CHUNKS[wildcards.chunk].runs
            }
        ),
    message:
        "Training {wildcards.chunk}"
    shell:
        "exec pydyn train --config {params.config:q} --done {output.done:q} {params.runs:q} dynamic > >(trap '' TERM INT; exec tee {log:q}) 2>&1"
