#!/usr/bin/env bash
# Train on several GPUs or CPU processes, or many machines.
#
# usage: fcn-plugin dist_train CONFIG PROCESSES [options of train]
#
# If a process dies, or does not answer for env_cfg.dist_cfg.timeout seconds
# (600), all end with an error.
#
# variables, on one machine:
#   MAX_RESTARTS              how often they start again at the last checkpoint
#
# variables, on many machines, on each of which it is run:
#   NODES, NODE_RANK          how many machines, and which this is, from 0
#   MASTER_ADDR, MASTER_PORT  of the first machine, 127.0.0.1 and 29500
#
# examples:
#   fcn-plugin dist_train fcn8s_vgg16_shapes 2
#   fcn-plugin dist_train fcn8s_vgg16_voc 4 --amp --work-dir work_dirs/voc
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: fcn-plugin dist_train CONFIG PROCESSES [options of train]" >&2
    exit 2
fi
config=$1 processes=$2
shift 2
# On one machine torch finds a free port, so that several runs do not meet.
where=(--standalone --local-addr 127.0.0.1 --max-restarts "${MAX_RESTARTS:-0}")
# Or processes that are started again find the addresses of those before them.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
if [ -n "${NODES:-}${NODE_RANK:-}${MASTER_ADDR:-}${MASTER_PORT:-}" ]; then
    if [ "${MAX_RESTARTS:-0}" != 0 ]; then
        echo "error: MAX_RESTARTS is for one machine; leave NODES, NODE_RANK and MASTER_* unset" >&2
        exit 1
    fi
    where=(--nnodes "${NODES:-1}" --node-rank "${NODE_RANK:-0}"
        --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${MASTER_PORT:-29500}")
    echo "Meeting ${NODES:-1} machines at ${MASTER_ADDR:-127.0.0.1}, port ${MASTER_PORT:-29500}" >&2
fi
# Or torch.distributed.run gives each process a single thread.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-$("${PYTHON:-python}" "$(dirname "$0")/threads.py" "$processes")}"
export OMP_NUM_THREADS
exec "${PYTHON:-python}" -m torch.distributed.run \
    "${where[@]}" --nproc-per-node "$processes" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
