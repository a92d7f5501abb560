"""Makes prompt_tuning.json: losses, gradients and updates of prompt tuning by PyTorch, transformers and PEFT, in f32.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2
    /tmp/reference/bin/python prompt_tuning.py > prompt_tuning.json

Weights and tokens come from `noise`, which tests/training/fixture.rs repeats, so that the dump stays small.
"""
import json

import peft
import torch
import transformers

SHAPE = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=8, vocab_size=31, max_position_embeddings=64, rms_norm_eps=1e-5)
VIRTUAL = 3
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


def case(tied):
    config = transformers.LlamaConfig(**SHAPE, tie_word_embeddings=tied, attn_implementation="eager",
                                      rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    model = transformers.LlamaForCausalLM(config)
    fill(model, tied)
    tuned = peft.get_peft_model(model, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL))
    prompt = tuned.prompt_encoder["default"].embedding.weight
    prompt.data = noise(2000, prompt.numel()).reshape(prompt.shape) / 4
    optimizer = torch.optim.AdamW([prompt], lr=0.05, weight_decay=0.01)
    losses, gradient = [], None
    for step in range(20):
        optimizer.zero_grad()
        loss = tuned(**batch()).loss
        loss.backward()
        losses.append(loss.item())
        gradient = prompt.grad.flatten().tolist() if step == 0 else gradient
        optimizer.step()
    return dict(tied=tied, losses=losses, gradient=gradient, prompt_after=prompt.flatten().tolist())


def adamw():
    """20 updates of seven weights by gradients that are noise of growing size."""
    weights = torch.nn.Parameter(noise(1, 7))
    optimizer = torch.optim.AdamW([weights], lr=0.03, weight_decay=0.1)
    after = []
    for step in range(20):
        weights.grad = noise(100 + step, 7) * 1.5**step / 100
        optimizer.step()
        after.append(weights.tolist())
    return after


torch.manual_seed(0)
print(json.dumps(dict(versions=dict(torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__),
                      cases=[case(True), case(False)], adamw=adamw()), indent=1))
