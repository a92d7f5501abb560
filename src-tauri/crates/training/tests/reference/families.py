"""Makes families.json: losses and gradients of LoRA, DoRA and a soft prompt by PyTorch, transformers and PEFT, in f32, on every
architecture and pack of ../../../model/tests/reference.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 gguf==0.19.0
    /tmp/reference/bin/python families.py > families.json

Packs are turned back into f32 by the gguf package. Of every gradient the dump holds its length and its products with four
vectors of `noise`: the products of a difference tell how long it is, at a hundredth of the size. Each text goes alone through the
model, because a padded batch would turn all of its texts by the angles of the longest.
"""
import importlib.metadata
import json
import pathlib
import sys

import gguf
import numpy
import peft
import torch
import transformers

MODEL = pathlib.Path(__file__).parents[3] / "model/tests/reference"
DECODERS = ["llama", "llama3", "linear", "dynamic", "yarn", "qwen2", "mistral", "phi3", "phi3-long"]
PACKS = ["llama-f16", "llama-q8_0", "llama-q4_0", "llama-q5_0", "llama-q4_k_m", "qwen2-q8_0", "qwen2-q5_k_m", "phi3-q4_0"]
APART = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
JOINED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
LENGTHS = [(5, 65), (3, 20)]  # prompt, answer: beyond every window and original context, and within most
VIRTUAL = 4
PRODUCTS = 4


def noise(seed, length):
    """Values in +-1 from a linear congruential generator (Knuth, MMIX); exact in f32."""
    state, out = seed * 0x9E3779B97F4A7C15 % 2**64, []
    for _ in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append((state >> 40) / 2**23 - 1.0)
    return torch.tensor(out, dtype=torch.float32)


def decoder(name):
    return transformers.AutoModelForCausalLM.from_pretrained(MODEL / "decoders" / name, dtype=torch.float32, attn_implementation="eager")


def pack(name):
    file = MODEL / "gguf" / f"{name}.gguf"
    # The token that pads: transformers takes Phi-3's own, which is beyond this vocabulary.
    model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32, pad_token_id=0,
                                                              attn_implementation="eager")
    for tensor in gguf.GGUFReader(file).tensors:
        if tensor.name == "rope_freqs.weight":  # transformers reads past it
            rotary = model.model.rotary_emb
            divisors = torch.tensor(numpy.array(tensor.data, dtype=numpy.float32))
            rotary.inv_freq = rotary.inv_freq / divisors
            rotary.original_inv_freq = rotary.inv_freq
    return model


def tensors_of(tuned, dora):
    """For every tensor as Inkling has it: the parameter of PEFT and the rows of it."""
    found = []
    for layer in tuned.base_model.model.model.layers:
        attention, mlp, config = layer.self_attn, layer.mlp, tuned.config
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        queries, keys, inner = config.num_attention_heads * head, config.num_key_value_heads * head, config.intermediate_size
        if hasattr(attention, "qkv_proj"):
            modules = [(attention.qkv_proj, [queries, keys, keys]), (attention.o_proj, [config.hidden_size]),
                       (mlp.gate_up_proj, [inner, inner]), (mlp.down_proj, [config.hidden_size])]
        else:
            modules = [(getattr(attention if module in APART[:4] else mlp, module), None) for module in APART]
        for module, parts in modules:
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            found.append((a, slice(None)))
            start = 0
            for rows in parts or [b.shape[0]]:
                found.append((b, slice(start, start + rows)))
                if dora:
                    found.append((module.lora_magnitude_vector["default"].weight, slice(start, start + rows)))
                start += rows
    return found


def fill(found, dora):
    """`noise` / 4, around 1 for magnitudes; seeds count up in the order of the tensors."""
    for seed, (parameter, rows) in enumerate(found, 3000):
        part = parameter.data[rows]
        values = noise(seed, part.numel()).reshape(part.shape) / 4
        parameter.data[rows] = 1 + values if dora and part.dim() == 1 else values


def loss_of(model, vocab):
    """Mean over the tokens of all answers."""
    total = 0
    for row, (prompt, answer) in enumerate(LENGTHS):
        tokens = ((noise(1000 + row, prompt + answer) + 1) / 2 * vocab).floor().long().clamp(max=vocab - 1)[None]
        labels = tokens.clone()
        labels[:, :prompt] = -100
        mask = torch.ones_like(tokens)
        total = total + model(input_ids=tokens, labels=labels, attention_mask=mask, use_cache=False).loss * answer
    return total / sum(answer for _, answer in LENGTHS)


def sketch(gradients):
    found = []
    for index, gradient in enumerate(gradients):
        flat = gradient.double().flatten()
        products = [flat @ noise(9000 + PRODUCTS * index + k, flat.numel()).double() for k in range(PRODUCTS)]
        found.append([float(f"{value:.8g}") for value in [flat.norm(), *products]])
    return found


def low_rank(model, dora, rank):
    modules = JOINED if hasattr(model.model.layers[0].self_attn, "qkv_proj") else APART
    tuned = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules=modules,
                                                       lora_dropout=0.0, use_dora=dora))
    found = tensors_of(tuned, dora)
    fill(found, dora)
    loss = loss_of(tuned, model.config.vocab_size)
    loss.backward()
    result = dict(loss=loss.item(), gradient=sketch([parameter.grad[rows] for parameter, rows in found]))
    tuned.unload()
    return result


def soft_prompt(model):
    tuned = peft.get_peft_model(model, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL))
    prompt = tuned.prompt_encoder["default"].embedding.weight
    prompt.data = noise(2000, prompt.numel()).reshape(prompt.shape) / 4
    loss = loss_of(tuned, model.config.vocab_size)
    loss.backward()
    return dict(loss=loss.item(), gradient=sketch([prompt.grad]))


def case(name, load):
    print(name, file=sys.stderr)
    return dict(name=name, lora=low_rank(load(name), False, 2), dora=low_rank(load(name), True, 1), soft_prompt=soft_prompt(load(name)))


torch.manual_seed(0)
versions = {package: importlib.metadata.version(package) for package in ["torch", "transformers", "peft", "gguf"]}
print(json.dumps(dict(versions=versions, decoders=[case(name, decoder) for name in DECODERS], packs=[case(name, pack) for name in PACKS])))
