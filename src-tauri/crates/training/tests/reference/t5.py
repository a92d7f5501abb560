"""Writes t5.json: losses and gradients of prompt tuning on the small T5 bases of `crates/model/tests/reference/t5`, by PEFT.

Usage: python3 t5.py. Made with transformers 5.23.0, PEFT 0.21.2, torch 2.15.0 (CPU, f32, eager attention). One padded batch,
its padding masked; the loss is the mean over all answer tokens, as transformers computes it.
"""

import json
import pathlib

import peft
import torch
import transformers
from safetensors.torch import load_file
from transformers import T5Config, T5ForConditionalGeneration

TOKENS = 6
LENGTHS = [(8, 9), (21, 5), (70, 17), (1, 1)]
here = pathlib.Path(__file__).parent
bases = here / "../../../model/tests/reference/t5"
torch.set_num_threads(1)


def base(kind):
    config = T5Config(**json.loads((bases / kind / "config.json").read_text()), attn_implementation="eager")
    model = T5ForConditionalGeneration(config).float().eval()
    state = {name: value.float() for name, value in load_file(bases / kind / "model.safetensors").items()}
    if kind == "flan":
        # Untied first: loading would write the head over the embedding.
        model.lm_head.weight = torch.nn.Parameter(state["lm_head.weight"])
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all("embed_tokens" in name or (kind == "first" and name == "lm_head.weight") for name in missing)
    return model


def padded(rows, fill):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)


draw = torch.Generator().manual_seed(3)
examples = [tuple(torch.randint(3, 101, (n,), generator=draw) for n in lengths) for lengths in LENGTHS]
cases = []
for kind in ("flan", "first"):
    for parts in (1, 2):
        config = peft.PromptTuningConfig(
            task_type=peft.TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=TOKENS, num_transformer_submodules=parts, num_layers=2,
            num_attention_heads=3, token_dim=48,
        )
        model = peft.get_peft_model(base(kind), config)
        weight = model.prompt_encoder["default"].embedding.weight
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=draw))
        ids = padded([prompt for prompt, _ in examples], 0)
        mask = padded([torch.ones(len(prompt), dtype=torch.long) for prompt, _ in examples], 0)
        labels = padded([answer for _, answer in examples], -100)
        # With two submodules PEFT holds vectors for the decoder too, but never passes them on: their gradient is zero.
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        flat = lambda values: [float(f"{value:.9g}") for value in values.flatten().tolist()]
        cases.append({"kind": kind, "parts": parts, "loss": loss.item(), "prompt": flat(weight.detach()), "gradient": flat(weight.grad)})
described = {
    "made_with": f"transformers {transformers.__version__}, PEFT {peft.__version__}, torch {torch.__version__}",
    "tokens": TOKENS,
    "examples": [[prompt.tolist(), answer.tolist()] for prompt, answer in examples],
    "cases": cases,
}
(here / "t5.json").write_text(json.dumps(described) + "\n")
