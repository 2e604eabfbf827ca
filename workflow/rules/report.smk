rule report:
    input:
        chunks=complete_chunks,
        stores=[PLAN.store(dataset) for dataset in PLAN.pools],
    output:
        page=REPORT,
        tables=directory(f"{RESULTS}/report/tables"),
        figures=directory(f"{RESULTS}/report/figures"),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        config=CONFIG,
        resolved=RESOLVED,
        code=code_digest("pydyn.report.page"),
    message:
        "Writing the report"
    shell:
        "pydyn report --config {params.config:q} --output {output.page:q} 2>&1 | tee {log:q}"
