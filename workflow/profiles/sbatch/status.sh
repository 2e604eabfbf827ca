#!/bin/sh
# What Snakemake wants to know of a job: running, success or failed.
state=$(squeue --noheader --states=all --jobs="$1" --format=%T 2>&1 | head -n 1)
case "$state" in
"" | *"Invalid job id"*) # the controller has forgotten it, MinJobAge seconds after its end
    state=$(sacct --noheader --allocations --jobs="$1" --format=State --parsable2 2>/dev/null | head -n 1)
    state=${state:-FORGOTTEN}
    ;;
esac
case "$state" in
COMPLETED) echo success ;;
BOOT_FAIL | CANCELLED* | DEADLINE | FAILED | FORGOTTEN | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | TIMEOUT) echo failed ;;
*) echo running ;; # waiting, running, ending, or a controller that does not answer now
esac
