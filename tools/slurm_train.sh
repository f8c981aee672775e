#!/usr/bin/env bash
# Train under Slurm, one task a GPU.
#
# usage: fcn-plugin slurm_train PARTITION JOB_NAME CONFIG [options of train]
#
# variables:
#   GPUS, GPUS_PER_NODE  tasks in all (8), and on each machine (8, or GPUS)
#   CPUS_PER_TASK        cores of each task (5)
#   SRUN_ARGS            more options for srun
#
# examples:
#   fcn-plugin slurm_train gpu voc fcn8s_vgg16_voc
#   fcn-plugin slurm_train gpu ade20k fcn8s_vgg16_ade20k --amp --resume
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: fcn-plugin slurm_train PARTITION JOB_NAME CONFIG [options of train]" >&2
    exit 2
fi
if ! command -v srun >/dev/null; then
    echo "error: no srun on this machine; without Slurm use fcn-plugin dist_train" >&2
    exit 1
fi
partition=$1 job=$2 config=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# SRUN_ARGS is a list of words, hence without quotes.
# shellcheck disable=SC2086
exec srun --partition "$partition" --job-name "$job" --gres "gpu:$per_node" \
    --ntasks "$gpus" --ntasks-per-node "$per_node" --cpus-per-task "${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$config" --launcher slurm "$@"
