"""Makes lora.json: losses, gradients and updates of LoRA and DoRA by PyTorch, transformers and PEFT, in f32.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2
    /tmp/reference/bin/python lora.py > lora.json

Weights and tokens come from `noise`, which tests/training/fixture.rs repeats, so that the dump stays small.
"""
import json

import peft
import torch
import transformers

SHAPE = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=8, vocab_size=31, max_position_embeddings=64, rms_norm_eps=1e-5)
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LENGTHS = [(4, 7), (1, 3), (6, 12), (2, 1)]  # prompt, answer


def noise(seed, length):
    """Values in +-1 from a linear congruential generator (Knuth, MMIX); exact in f32."""
    state, out = seed * 0x9E3779B97F4A7C15 % 2**64, []
    for _ in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append((state >> 40) / 2**23 - 1.0)
    return torch.tensor(out, dtype=torch.float32)


def fill(model, tied):
    """Matrices: noise / 4; norms: 1 + noise / 4. Seeds count up in the order of DenseWeights."""
    core, seed = model.model, 1

    def put(parameter, norm=False):
        nonlocal seed
        values = noise(seed, parameter.numel()).reshape(parameter.shape) / 4
        parameter.data = 1 + values if norm else values
        seed += 1

    put(core.embed_tokens.weight)
    for layer in core.layers:
        attention, mlp = layer.self_attn, layer.mlp
        put(layer.input_layernorm.weight, norm=True)
        for linear in [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]:
            put(linear.weight)
        put(layer.post_attention_layernorm.weight, norm=True)
        for linear in [mlp.gate_proj, mlp.up_proj, mlp.down_proj]:
            put(linear.weight)
    put(core.norm.weight, norm=True)
    if tied:
        model.lm_head.weight = core.embed_tokens.weight
    else:
        put(model.lm_head.weight)


def tokens(seed, length):
    return ((noise(seed, length) + 1) / 2 * SHAPE["vocab_size"]).floor().long().clamp(max=SHAPE["vocab_size"] - 1)


def batch():
    """Right-padded; the loss is over answers only."""
    width = max(p + a for p, a in LENGTHS)
    ids, labels, mask = (torch.full((len(LENGTHS), width), fill) for fill in (0, -100, 0))
    for row, (prompt, answer) in enumerate(LENGTHS):
        ids[row, :prompt + answer] = tokens(1000 + row, prompt + answer)
        labels[row, prompt:prompt + answer] = ids[row, prompt:prompt + answer]
        mask[row, :prompt + answer] = 1
    return dict(input_ids=ids, labels=labels, attention_mask=mask)


def adapted(dora, rslora):
    """A base with an adapter of fixed weights, and these in the order of the layers and MODULES."""
    config = transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True, attn_implementation="eager",
                                      rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    model = transformers.LlamaForCausalLM(config)
    fill(model, True)
    tuned = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=MODULES,
                                                       lora_dropout=0.0, use_dora=dora, use_rslora=rslora))
    parameters, seed = [], 3000
    for layer in tuned.base_model.model.model.layers:
        for name in MODULES:
            module = getattr(layer.self_attn if name in MODULES[:4] else layer.mlp, name)
            tensors = [module.lora_A["default"].weight, module.lora_B["default"].weight]
            if dora:
                tensors.append(module.lora_magnitude_vector["default"].weight)
            for index, tensor in enumerate(tensors):
                values = noise(seed, tensor.numel()).reshape(tensor.shape) / 4
                tensor.data = 1 + values if index == 2 else values
                seed += 1
            parameters += tensors
    assert len(parameters) == sum(p.requires_grad for p in tuned.parameters())
    return tuned, parameters


def case(dora, rslora):
    tuned, parameters = adapted(dora, rslora)
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.01)
    flat = lambda tensors: [float(f"{value:.9g}") for tensor in tensors for value in tensor.flatten().tolist()]
    losses, gradient = [], None
    for step in range(20):
        optimizer.zero_grad()
        loss = tuned(**batch()).loss
        loss.backward()
        losses.append(loss.item())
        gradient = flat([p.grad for p in parameters]) if step == 0 else gradient
        optimizer.step()
    return dict(dora=dora, rslora=rslora, losses=losses, gradient=gradient, after=flat(parameters))


def log_probability(model, prompt, answer):
    ids = torch.cat([prompt, answer])[None]
    logits = model(input_ids=ids).logits[0, len(prompt) - 1:-1]
    return torch.log_softmax(logits, -1).gather(1, answer[:, None]).sum()


torch.manual_seed(0)
print(json.dumps(dict(versions=dict(torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__),
                      cases=[case(False, False), case(True, True)])))
