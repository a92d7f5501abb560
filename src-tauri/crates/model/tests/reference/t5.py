"""Writes t5/: two small random T5 bases in transformers' layout, what transformers and PEFT make of them, and position buckets.

Usage: python3 t5.py. Made with transformers 5.23.0, PEFT 0.21.2, torch 2.15.0, tokenizers 0.23.3 (CPU, f32, eager attention).
Weights are those of T5's own initialisation, moved off their symmetric values, and rounded to f16 so that the files are small
and exact: "flan" is gated, with a head of its own and logits as they are; "first" has ReLU, a tied head and scaled logits.
"""

import json
import pathlib
import shutil

import peft
import safetensors.torch
import tokenizers
import torch
import transformers
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

VOCAB, HIDDEN = 101, 48
PAIRS = [(8, 9), (37, 20), (150, 40), (1, 1)]
here = pathlib.Path(__file__).parent / "t5"
torch.set_num_threads(1)


def tokenizer():
    model = tokenizers.models.Unigram()
    made = tokenizers.Tokenizer(model)
    made.normalizer = tokenizers.normalizers.NFKC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    text = ["the keeper of the lighthouse wrote a line about gulls into the book, and the sea beat against the rocks."] * 4
    special = ["<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(text, trainer)
    return made


def base(kind, seed):
    torch.manual_seed(seed)
    gated = kind == "flan"
    config = T5Config(
        d_model=HIDDEN, d_kv=16, d_ff=84, num_layers=2, num_decoder_layers=3, num_heads=3, vocab_size=VOCAB, dropout_rate=0.0,
        feed_forward_proj="gated-gelu" if gated else "relu", tie_word_embeddings=not gated, decoder_start_token_id=0,
        attn_implementation="eager",
    )
    model = T5ForConditionalGeneration(config).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "layer_norm" in name:
                weight.copy_(1 + 0.2 * torch.randn_like(weight))
            elif "relative_attention_bias" in name:
                weight.copy_(1.5 * torch.randn_like(weight))
            elif "lm_head" in name:
                weight.copy_(0.3 * torch.randn_like(weight))
            weight.copy_(weight.half().float())
        if gated and model.lm_head.weight.data_ptr() == model.shared.weight.data_ptr():
            model.lm_head.weight = torch.nn.Parameter((0.3 * torch.randn(VOCAB, HIDDEN)).half().float())
    folder = here / kind
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    state = {name: value for name, value in state.items() if not name.endswith("embed_tokens.weight")}
    if not gated:
        state.pop("lm_head.weight", None)
    safetensors.torch.save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "tie_word_embeddings": not gated}, indent=1, default=str) + "\n")
    tokenizer().save(str(folder / "tokenizer.json"))
    return model


def pairs(seed):
    draw = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(3, VOCAB, (n,), generator=draw) for n in lengths) for lengths in PAIRS]


def padded(rows, fill):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)


def logits(model, examples):
    """One padded batch; the encoder's padding is masked."""
    ids = padded([prompt for prompt, _ in examples], 0)
    mask = padded([torch.ones(len(prompt), dtype=torch.long) for prompt, _ in examples], 0)
    labels = padded([answer for _, answer in examples], -100)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, labels=labels).logits
    return [row[: len(answer)].contiguous() for row, (_, answer) in zip(out, examples)]


def greedy(model, prompt, count):
    answer = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        for _ in range(count):
            out = model(input_ids=prompt[None], decoder_input_ids=answer, use_cache=False).logits[0, -1]
            answer = torch.cat([answer, out.argmax().reshape(1, 1)], dim=1)
    return answer[0, 1:].tolist()


tensors, described = {}, {"made_with": f"transformers {transformers.__version__}, PEFT {peft.__version__}, torch {torch.__version__}"}
examples = pairs(7)
described["pairs"] = [[prompt.tolist(), answer.tolist()] for prompt, answer in examples]
for seed, kind in enumerate(("flan", "first")):
    model = base(kind, seed)
    for index, rows in enumerate(logits(model, examples)):
        tensors[f"{kind}.{index}"] = rows
    described[f"greedy_{kind}"] = [greedy(model, examples[index][0], 100) for index in range(3)]
    if kind == "flan":
        for parts in (1, 2):
            torch.manual_seed(20 + parts)
            config = peft.PromptTuningConfig(
                task_type=peft.TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=20, num_transformer_submodules=parts,
                num_layers=2, num_attention_heads=3, token_dim=HIDDEN, base_model_name_or_path="flan",
            )
            tuned = peft.get_peft_model(model, config).eval()
            tuned.save_pretrained(here / f"prompt_{parts}")
            (here / f"prompt_{parts}" / "README.md").unlink(missing_ok=True)
            for index, rows in enumerate(logits(tuned, examples)):
                tensors[f"prompt_{parts}.{index}"] = rows
distances = torch.arange(-300, 301)
for name, both in (("encoder", True), ("decoder", False)):
    described[f"buckets_{name}"] = T5Attention._relative_position_bucket(distances, both, 32, 128).tolist()
torture = ["the keeper of the sea", "  two   blanks ", "", "gulls\n\tand rocks", "naïve ﬁne ½ 犬 🐉", "the</s> book", "<unk>"]
made = tokenizers.Tokenizer.from_file(str(here / "flan" / "tokenizer.json"))
described["torture"] = [[text, made.encode(text, add_special_tokens=False).ids] for text in torture]
safetensors.torch.save_file(tensors, here / "expected.safetensors")
(here / "expected.json").write_text(json.dumps(described, ensure_ascii=False) + "\n")
