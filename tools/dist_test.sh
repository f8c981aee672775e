#!/usr/bin/env bash
# Score a checkpoint on several GPUs or CPU processes.
#
# usage: fcn-plugin dist_test CONFIG CHECKPOINT PROCESSES [options of test]
#
# variables, on many machines, on each of which it is run:
#   NODES, NODE_RANK          how many machines, and which this is, from 0
#   MASTER_ADDR, MASTER_PORT  of the first machine, 127.0.0.1 and 29500
#
# examples:
#   fcn-plugin dist_test fcn8s_vgg16_shapes work_dirs/fcn8s_vgg16_shapes 2
#   fcn-plugin dist_test fcn8s_vgg16_voc work_dirs/voc 4 --tta
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
    echo "Meeting ${NODES:-1} machines at ${MASTER_ADDR:-127.0.0.1}, port ${MASTER_PORT:-29500}" >&2
fi
# Or torch.distributed.run gives each process a single thread.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-$("${PYTHON:-python}" "$(dirname "$0")/threads.py" "$processes")}"
export OMP_NUM_THREADS
exec "${PYTHON:-python}" -m torch.distributed.run \
    "${where[@]}" --nproc-per-node "$processes" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
