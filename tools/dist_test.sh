#!/usr/bin/env bash
# Score a checkpoint on several GPUs or CPU processes:
#
#   fcn-plugin dist_test CONFIG CHECKPOINT PROCESSES [options of test]
#
# On many machines run it on each, with NODES, NODE_RANK (0 ..), MASTER_ADDR and MASTER_PORT set.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: fcn-plugin dist_test CONFIG CHECKPOINT PROCESSES [options of test]" >&2
    exit 2
fi
config=$1 checkpoint=$2 processes=$3
shift 3
# On one machine torch finds a free port, so that several runs do not meet.
where=(--standalone --local-addr 127.0.0.1)
if [ -n "${NODES:-}${NODE_RANK:-}${MASTER_ADDR:-}${MASTER_PORT:-}" ]; then
    where=(--nnodes "${NODES:-1}" --node-rank "${NODE_RANK:-0}"
        --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${MASTER_PORT:-29500}")
fi
# Or torch.distributed.run gives each process a single thread.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-$("${PYTHON:-python}" "$(dirname "$0")/threads.py" "$processes")}"
export OMP_NUM_THREADS
exec "${PYTHON:-python}" -m torch.distributed.run \
    "${where[@]}" --nproc-per-node "$processes" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
