"""Writes tiny random bases in the real file layouts, and what transformers makes of them.

    python decoders.py            (torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3)

Each folder under decoders/ is what `save_pretrained` wrote. expected.json beside it holds token ids, greedy continuations and
conversations; expected.safetensors the logits, computed in f32 from the weights as they were saved.
"""

import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

HERE = pathlib.Path(__file__).parent / "decoders"
VOCAB = 120
SIZES = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=VOCAB, max_position_embeddings=512, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRICT = """{{- bos_token }}
{%- set ns = namespace(count=0) %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set ns.count = ns.count + 1 %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + message['content'].strip() + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'].strip().replace('\\n\\n', '\\n') + eos_token }}
    {%- endif %}
{%- endfor %}"""
PHI = (
    "{% for message in messages %}{{'<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
FACTORS = dict(short_factor=[1.0, 1.1, 1.25, 1.5], long_factor=[1.2, 2.0, 4.0, 7.5])


def bases():
    """Name, config, dtype of the file, size of a shard, lengths of the sequences, template."""
    llama = dict(SIZES, architectures=["LlamaForCausalLM"])
    yield "llama", LlamaConfig(**llama, tie_word_embeddings=True), torch.float16, None, (60, 7), None
    yield "llama3", LlamaConfig(**llama, rope_parameters=LLAMA3), torch.bfloat16, None, (400, 30), None
    linear = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    yield "linear", LlamaConfig(**llama, rope_parameters=linear), torch.bfloat16, None, (300, 30), None
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    yield "dynamic", LlamaConfig(**dict(llama, max_position_embeddings=48), rope_parameters=dynamic), torch.bfloat16, None, (150, 20), None
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
    yield "yarn", LlamaConfig(**llama, rope_parameters=yarn), torch.bfloat16, None, (300, 30), None
    yield "qwen2", Qwen2Config(**SIZES, tie_word_embeddings=True), torch.bfloat16, "60KB", (90, 12), CHATML
    yield "mistral", MistralConfig(**SIZES, head_dim=32, sliding_window=16), torch.bfloat16, None, (90, 12), STRICT
    phi3 = dict(SIZES, num_key_value_heads=4)
    yield "phi3", Phi3Config(**phi3, sliding_window=24), torch.bfloat16, None, (70, 12), PHI
    longrope = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, **FACTORS,
                "original_max_position_embeddings": 64}
    yield "phi3-long", Phi3Config(**phi3, original_max_position_embeddings=64, rope_parameters=longrope), torch.bfloat16, None, (90, 20), None


def tokenizer(template):
    vocabulary = {f"t{index}": index for index in range(VOCAB - 5)}
    vocabulary.update({"<unk>": 0 + VOCAB - 5})
    del vocabulary["t1"], vocabulary["t2"]
    vocabulary.update({"<s>": 1, "</s>": 2})
    for index, token in enumerate(["<|im_start|>", "<|im_end|>", "<|user|>", "<|end|>"]):
        vocabulary[token] = VOCAB - 4 + index
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>", "<|user|>", "<|end|>"],
    )
    fast.chat_template = template
    return fast


CONVERSATIONS = [
    [{"role": "user", "content": " Hello there. "}],
    [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two\n\nand more"}, {"role": "user", "content": "Three"}],
    [{"role": "system", "content": "You are a cat."}, {"role": "user", "content": "Who?"}],
]


def conversations(fast):
    texts = []
    for messages in CONVERSATIONS:
        try:
            texts.append(fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception:  # The template refuses it: jinja2's TemplateError.
            texts.append(None)
    return texts


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    for seed, (name, config, dtype, shard, lengths, template) in enumerate(bases()):
        folder = HERE / name
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if parameter.dim() == 1:
                    # Norms near one, biases that matter.
                    parameter.copy_(torch.randn_like(parameter) * 0.2 + (0.0 if key.endswith("bias") else 1.0))
                elif "embed_tokens" in key:
                    parameter.copy_(torch.randn_like(parameter) * 0.8)
                else:
                    # A gain below one, as trained layers have; noise would grow with every layer otherwise.
                    parameter.copy_(torch.randn_like(parameter) * 0.7 / parameter.shape[1] ** 0.5)
        model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=[2, VOCAB - 3])
        model.to(dtype).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
        fast = tokenizer(template)
        fast.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)

        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        logits, sequences = {}, []
        for index, length in enumerate(lengths):
            tokens = torch.randint(3, VOCAB - 6, (1, length))
            with torch.no_grad():
                rows = loaded(tokens).logits[0]
            # The last positions are the hardest, and files must stay small.
            logits[f"logits.{index}"] = rows[-24:].contiguous()
            sequences.append(tokens[0].tolist())
        start = torch.tensor([sequences[-1][:5]])
        steps = 100
        with torch.no_grad():
            # Without a cache, so that dynamic frequencies are those of the whole text; and no end token stops it.
            text = start
            for _ in range(steps):
                text = torch.cat([text, loaded(text).logits[:, -1].argmax(-1, keepdim=True)], 1)
        expected = {
            "sequences": sequences,
            "greedy_start": start[0].tolist(),
            "greedy": text[0, 5:].tolist(),
            "conversations": CONVERSATIONS,
            "chat": conversations(fast) if template else None,
        }
        (HERE / f"{name}.json").write_text(json.dumps(expected) + "\n")
        save_file(logits, HERE / f"{name}.safetensors")
        print(name, sum(parameter.numel() for parameter in loaded.parameters()))


main()
