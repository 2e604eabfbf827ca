ANALYSES = {
    name: chunk
    for name, chunk in PLAN.chunks.get("shapes", {}).items()
    if name.startswith("analysis__")
}
POPULATIONS = {
    name: chunk
    for name, chunk in PLAN.chunks.get("shapes", {}).items()
    if name not in ANALYSES
}


def population_of(wildcards):
    """The mark of the job that trains the networks that an analysis chooses from."""
    wanted = ANALYSES[f"analysis__{wildcards.chunk}"].runs[0].population
    return next(
        f"{RESULTS}/shapes/chunks/{name}.json"
        for name, chunk in POPULATIONS.items()
        if wanted in chunk.runs
    )
