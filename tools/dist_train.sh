#!/usr/bin/env bash
# Train on several GPUs or CPU processes, or many machines:
#
#   fcn-plugin dist_train CONFIG PROCESSES [options of train]
#
# On many machines run it on each, with NODES, NODE_RANK (0 ..), MASTER_ADDR and MASTER_PORT set.
#
# If a process dies, or does not answer for env_cfg.dist_cfg.timeout seconds (600), all end with an
# error. With MAX_RESTARTS=N they are started again up to N times and go on from the last checkpoint,
# on one machine.
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
fi
# Or torch.distributed.run gives each process a single thread.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-$("${PYTHON:-python}" "$(dirname "$0")/threads.py" "$processes")}"
export OMP_NUM_THREADS
exec "${PYTHON:-python}" -m torch.distributed.run \
    "${where[@]}" --nproc-per-node "$processes" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
