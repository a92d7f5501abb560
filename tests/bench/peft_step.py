"""PyTorch + PEFT as people use them, for `train.py`: a step of LoRA on a random SmolLM2-135M shape, as plain loops.

    python tests/bench/peft_step.py --objective sft --lengths 61,74,98,384      # padded to the longest, as a collator does
    python tests/bench/peft_step.py --objective dpo --batch 1 --seq 256          # a pair is two texts
    python tests/bench/peft_step.py --objective kto --batch 2 --seq 256
    python tests/bench/peft_step.py --objective kto --batch 2 --seq 256 --precomputed
    python tests/bench/peft_step.py --t5 --lengths 61,74,98,184                  # a soft prompt of 20 on flan-t5-small, answers of 64

DPO (arXiv 2305.18290, eq. 7) knows the reference's log-probabilities beforehand (TRL's `precompute_ref_log_probs`). KTO (arXiv
2402.01306) does in a step what TRL's trainer does by default: the texts' own pass, and for the KL estimate one pass of mismatched
texts through the policy and one through the reference, both without gradient. With --precomputed it knows the latter beforehand.
"""
import argparse
import os
import resource
import statistics
import time

parser = argparse.ArgumentParser()
for name, value in dict(batch=1, seq=256, rank=16, steps=5, warmup=1, threads=2).items():
    parser.add_argument("--" + name, type=int, default=value)
parser.add_argument("--objective", default="sft", choices=["sft", "dpo", "kto"])
parser.add_argument("--lengths", default="")
parser.add_argument("--bf16", action="store_true")
parser.add_argument("--precomputed", action="store_true")
parser.add_argument("--t5", action="store_true")
a = parser.parse_args()
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

torch.set_num_threads(a.threads)
torch.manual_seed(0)
if a.t5:
    model = T5ForConditionalGeneration(T5Config(
        d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_decoder_layers=8, num_heads=6, vocab_size=32128, feed_forward_proj="gated-gelu",
        tie_word_embeddings=False, dropout_rate=0.0, decoder_start_token_id=0, use_cache=False)).float()
else:
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, vocab_size=49152,
        tie_word_embeddings=True, max_position_embeddings=8192, rms_norm_eps=1e-5, initializer_range=0.04, use_cache=False)).float()
if a.bf16:
    model = model.bfloat16()
soft_prompt = PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=20, num_transformer_submodules=1)
model = get_peft_model(model, soft_prompt if a.t5 else LoraConfig(task_type="CAUSAL_LM", r=a.rank, lora_alpha=2 * a.rank, lora_dropout=0.0,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

lengths = [int(n) for n in a.lengths.split(",")] if a.lengths else [a.seq] * a.batch
if a.objective == "dpo":
    lengths = lengths * 2
ids = torch.randint(0, model.config.vocab_size, (len(lengths), max(lengths)))
mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
labels = ids[:, :1].repeat(1, 64) if a.t5 else ids.masked_fill(~mask, -100)


def log_probabilities(ids):
    logits = model(input_ids=ids, attention_mask=mask.long()).logits[:, :-1].float()
    found = torch.gather(logits.log_softmax(-1), 2, ids[:, 1:, None])[..., 0]
    return (found * mask[:, 1:]).sum(-1)


with torch.no_grad():
    with model.disable_adapter():
        reference = log_probabilities(ids) if a.objective != "sft" else None
        mismatched = log_probabilities(ids.roll(1, 0)) if a.precomputed else None
liked = torch.arange(len(lengths)) % 2 == 0


def loss():
    if a.objective == "sft":
        return model(input_ids=ids, attention_mask=mask.long(), labels=labels).loss
    gain = 0.1 * (log_probabilities(ids) - reference)
    if a.objective == "dpo":
        chosen, rejected = gain.chunk(2)
        return -torch.nn.functional.logsigmoid(chosen - rejected).mean()
    other = ids.roll(1, 0)
    with torch.no_grad():
        of_policy = log_probabilities(other)
        with model.disable_adapter():
            of_reference = mismatched if a.precomputed else log_probabilities(other)
        shift = 0.1 * (of_policy - of_reference).mean().clamp(min=0)
    return (1 - torch.sigmoid(torch.where(liked, gain - shift, shift - gain))).mean()


times = []
for _ in range(a.warmup + a.steps):
    began = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss().backward()
    optimizer.step()
    times.append(time.perf_counter() - began)
times = times[a.warmup:]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"PEFT {a.objective} lengths={lengths}: median_step_s={statistics.median(times):.4f} min={min(times):.4f} peak_rss_MB={peak:.0f}")
