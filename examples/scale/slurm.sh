#!/bin/bash
# One scan on the nodes of a Slurm array. Send it with:
#
#   shards=$(sbatch --parsable slurm.sh)
#   sbatch --dependency=afterany:$shards --cpus-per-task=4 --wrap \
#     "fl-audit merge parts/* --out fl-audit-report --jobs 4"
#
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=02:00:00
#SBATCH --requeue
set -e
fl-audit scan model.onnx --preset standard --device cpu --quiet \
  --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --jobs "$SLURM_CPUS_PER_TASK" \
  --out "parts/$SLURM_ARRAY_TASK_ID"
