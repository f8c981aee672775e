#!/usr/bin/env bash
# Train on several GPUs (or, without any, in several CPU processes), on one machine or many:
#
#   tools/dist_train.sh CONFIG PROCESSES [options of train.py]
#
# On many machines run it on each, with NODES, NODE_RANK (0 ..), MASTER_ADDR and MASTER_PORT set.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG PROCESSES [options of train.py]" >&2
    exit 2
fi
config=$1 processes=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "${NODES:-1}" --node-rank "${NODE_RANK:-0}" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${MASTER_PORT:-29500}" \
    --nproc-per-node "$processes" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
