#!/usr/bin/env bash
# Fuzzes every reader of files from elsewhere: fuzz/run.sh [seconds for each target, 12 by default] [target …]
# libFuzzer comes with the crate libfuzzer-sys; the instrumentation is LLVM's own, so the ordinary compiler will do.
# What it finds lies in fuzz/artifacts, what it learned in fuzz/corpus; a million inputs a target take some minutes.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-12}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(gguf safetensors config tokenizer adapter)

coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
# A target triple keeps the instrumentation out of build scripts.
triple=$(rustc -vV | sed -n 's/^host: //p')
locked=()
[ -z "${CI:-}" ] || locked=(--locked)
RUSTFLAGS=$coverage cargo build --quiet --release --target "$triple" --target-dir ../../../../target/fuzz "${locked[@]}"

reference=../tests/reference
seeds() {
    mkdir -p "corpus/$1" "artifacts/$1"
    case $1 in
        gguf) cp $reference/tokenizers/*.gguf "corpus/$1/"
            for file in $reference/gguf/*.gguf; do head -c 16000 "$file" >"corpus/$1/$(basename "$file")"; done ;;
        safetensors) head -c 4096 $reference/decoders/llama/model.safetensors >"corpus/$1/llama" ;;
        config) for folder in $reference/decoders/*/; do cp "$folder/config.json" "corpus/$1/$(basename "$folder").json"; done ;;
        tokenizer) for folder in $reference/tokenizers/*/; do cp "$folder/tokenizer.json" "corpus/$1/$(basename "$folder").json"; done
            cp $reference/decoders/llama/tokenizer.json "corpus/$1/" ;;
        adapter) printf '\x02{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}' >"corpus/$1/lora-settings"
            printf '\x03{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4, "token_dim": 64}' >"corpus/$1/prompt-settings"
            printf '\x01\x58\0\0\0\0\0\0\0{"prompt_embeddings":{"dtype":"F32","shape":[4,64],"data_offsets":[0,1024]}}           ' >"corpus/$1/prompt" ;;
    esac
}

tried=0
for target in "${targets[@]}"; do
    seeds "$target"
    log=artifacts/$target/log
    # Slow or greedy inputs count as faults: two seconds and 512 MB for a file of some kilobytes.
    if ! "../../../../target/fuzz/$triple/release/$target" "corpus/$target" -max_total_time="$seconds" -timeout=2 -rss_limit_mb=512 \
        -max_len=20000 -artifact_prefix="artifacts/$target/" -print_final_stats=1 >"$log" 2>&1; then
        tail -n 40 "$log"
        echo "fuzz: $target fails on the input named above"
        exit 1
    fi
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1)
    tried=$((tried + count))
    echo "fuzz: $target $count inputs, ${edges:-cov: ?} edges, no fault"
done
echo "R6: $tried inputs, no panic, no hang, no allocation out of proportion"
