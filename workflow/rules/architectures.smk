ARCHITECTURES = PLAN.chunks.get("architectures", {})


# As train_dynamic: networks trained from scratch.
rule train_architectures:
    input:
        store=lambda wildcards: PLAN.store(ARCHITECTURES[wildcards.chunk].dataset),
    output:
        done=f"{RESULTS}/architectures/chunks/{{chunk}}.json",
    log:
        f"{RESULTS}/logs/architectures/{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/architectures/{{chunk}}.tsv"
    threads: PLAN.config.threads
    resources:
        mem_mb=memory(2000, per_input=3),
        runtime=minutes(120),
        gpu=int(USES_GPU),
    params:
        config=CONFIG,
        runs=lambda wildcards: [
            f"--run={run.id}" for run in ARCHITECTURES[wildcards.chunk].runs
        ],
        digests=lambda wildcards: [
            run.digest for run in ARCHITECTURES[wildcards.chunk].runs
        ],
        code=lambda wildcards: sorted(
            {
                training_digest(type(run.strategy))
                for run in ARCHITECTURES[wildcards.chunk].runs
            }
        ),
    message:
        "Training {wildcards.chunk}"
    shell:
        "exec pydyn train --config {params.config:q} --done {output.done:q} {params.runs:q} architectures > >(trap '' TERM INT; exec tee {log:q}) 2>&1"
