# From sources of images to one report. What runs is in config.yaml; presets in workflow/presets/ lie over it.
from snakemake.utils import min_version

min_version("9.14")


configfile: f"{workflow.basedir}/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/dynamic.smk"
include: "workflow/rules/frugal_inputs.smk"
include: "workflow/rules/frugal.smk"
include: "workflow/rules/architectures.smk"
include: "workflow/rules/shapes_inputs.smk"
include: "workflow/rules/shapes.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        REPORT,
        complete_chunks,  # or Snakemake would not miss one that the report was once made from
