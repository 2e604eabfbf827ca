rule report:
    input:
        chunks=complete_chunks,
        stores=[PLAN.store(dataset) for dataset in PLAN.pools],
        # Made of them are heads that are complete: nothing else would miss them.
        adapted=[
            f"{FEATURES}/{name}/adapted.safetensors"
            for name, features in PLAN.features.items()
            if features.adaptation
        ],
    output:
        page=report(REPORT, caption="../report/page.rst", category="Page"),
        tables=report(
            directory(f"{RESULTS}/report/tables"),
            patterns=["{name}.csv"],
            caption="../report/tables.rst",
            category="Tables",
        ),
        figures=report(
            directory(f"{RESULTS}/report/figures"),
            patterns=["{name}.svg"],
            caption="../report/figures.rst",
            category="Figures",
        ),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(20),
    params:
        config=CONFIG,
        resolved=RESOLVED,
        code=code_digest("pydyn.report.page"),
    message:
        "Writing the report"
    shell:
        "exec pydyn report --config {params.config:q} --output {output.page:q} > >(trap '' TERM INT; exec tee {log:q}) 2>&1"
