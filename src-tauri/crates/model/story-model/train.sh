#!/usr/bin/env bash
# Trains with one single-threaded process a core: train.sh PROCESSES ARGUMENTS-OF-train.py…
cd "$(dirname "$0")" || exit 1
export WORLD_SIZE=$1 MASTER_ADDR=127.0.0.1 MASTER_PORT=${MASTER_PORT:-29511} OMP_NUM_THREADS=1
shift
for ((i = 1; i < WORLD_SIZE; i++)); do RANK=$i "${PYTHON:-python3}" train.py --threads 1 "$@" & done
RANK=0 "${PYTHON:-python3}" train.py --threads 1 "$@"
wait
