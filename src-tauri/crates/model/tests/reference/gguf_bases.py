"""Writes small GGUF bases and tokenizers, and what llama.cpp, transformers and sentencepiece make of them.

    python gguf_bases.py    (gguf 0.19.0, llama-cpp-python 0.3.36, transformers 5.23.0, tokenizers 0.23.3, sentencepiece 0.2.3)

gguf/<name>.gguf is a random base in f32, written with the gguf package and quantised by llama.cpp; gguf/<name>.safetensors
holds token ids and llama.cpp's logits. tokenizers/<name>/ holds a tokenizer.json of transformers and <name>.gguf the same
vocabulary as GGUF metadata; tokenizers/expected.json the ids of the torture texts.
"""

import ctypes
import io
import json
import pathlib
import shutil
import tempfile

import gguf
import llama_cpp
import numpy as np
import sentencepiece
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaTokenizer
from transformers.convert_slow_tokenizer import generate_merges

HERE = pathlib.Path(__file__).parent
BASES, TOKENIZERS = HERE / "gguf", HERE / "tokenizers"

TEXTS = [
    "Once upon a time, there was a fox. It's 12345 o'clock, isn't it?",
    "Zoë's café: naïve façade — “quotes” … and 5 €",
    "日本語のテキスト と 한국어, русский, עברית, العربية",
    "🐉 a dragon 👩‍👩‍👧 and family 🏴󠁧󠁢󠁳󠁣󠁴󠁿 \u0000 \u200b end",
    " \n\n  leading and\ttabs \r\n\r\n   three   spaces    four ",
    "e\u0301 is not é until it is normalised; ﬁ ligature, ½, Ⅷ, ²",
    "WE'LL SHOUT: DON'T! don't!! (a+b)*c == 42.0e-7; <|x|> [INST] </ s>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "trailing space ",
    "\n",
    "",
]

# The splitting expressions of the published tokenizers of Qwen2 and Llama 3.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def training_text():
    return (TEXTS[:7] + ["the quick brown fox jumps over the lazy dog and then the story was told again"] * 4) * 3


def byte_level(name):
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name in ("smollm", "gpt-2"))
    first = {
        "qwen2": lambda: pre_tokenizers.Split(Regex(WORDS % r"\p{N}"), "isolated"),
        "llama-bpe": lambda: pre_tokenizers.Split(Regex(WORDS % r"\p{N}{1,3}"), "isolated"),
        "smollm": lambda: pre_tokenizers.Digits(individual_digits=True),
    }.get(name)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first(), plain] if first else [plain])
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=["<|end|>", "<|x|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    return tokenizer


def sentence_piece():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(training_text()), model_writer=model, model_type="bpe", vocab_size=400, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, minloglevel=2, hard_vocab_limit=False,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def add_byte_level(writer, tokenizer, name):
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(vocabulary["<|end|>"])
    if name == "llama-bpe":
        writer.add_bos_token_id(vocabulary["<|x|>"])
    return len(tokens)


def add_sentence_piece(writer, sp):
    count = sp.get_piece_size()
    kinds = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in range(count)]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([sp.id_to_piece(i) for i in range(count)])
    writer.add_token_scores([sp.get_score(i) for i in range(count)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(sp.bos_id())
    writer.add_eos_token_id(sp.eos_id())
    writer.add_unk_token_id(sp.unk_id())
    return count


def close(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokenizers():
    shutil.rmtree(TOKENIZERS, ignore_errors=True)
    TOKENIZERS.mkdir()
    expected = {"texts": TEXTS, "ids": {}, "decoded": {}}
    for name in ["gpt-2", "smollm", "qwen2", "llama-bpe"]:
        tokenizer = byte_level(name)
        (TOKENIZERS / name).mkdir()
        tokenizer.save(str(TOKENIZERS / name / "tokenizer.json"))
        writer = gguf.GGUFWriter(TOKENIZERS / f"{name}.gguf", "llama")
        add_byte_level(writer, tokenizer, name)
        close(writer)
        expected["ids"][name] = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        expected["decoded"][name] = [tokenizer.decode(ids) for ids in expected["ids"][name]]
    sp = sentence_piece()
    count = sp.get_piece_size()
    vocabulary = {sp.id_to_piece(i): i for i in range(count)}
    merges = generate_merges(vocabulary, {sp.id_to_piece(i): sp.get_score(i) for i in range(count)})
    fast = LlamaTokenizer(vocab=vocabulary, merges=merges)
    fast.save_pretrained(TOKENIZERS / "llama")
    (TOKENIZERS / "llama" / "tokenizer_config.json").unlink(missing_ok=True)
    writer = gguf.GGUFWriter(TOKENIZERS / "llama.gguf", "llama")
    add_sentence_piece(writer, sp)
    close(writer)
    ids = [fast.encode(text, add_special_tokens=False) for text in TEXTS]
    differing = [text for text, one in zip(TEXTS, ids) if one != sp.encode(text)]
    print("transformers and sentencepiece differ on", differing)
    expected["ids"]["llama"] = ids
    expected["decoded"]["llama"] = [fast.decode(one, skip_special_tokens=True, clean_up_tokenization_spaces=False) for one in ids]
    # What llama.cpp does, too: always a space before the text.
    expected["sentence_piece"] = [sp.encode(text) for text in TEXTS]
    expected["sentence_piece_decoded"] = [sp.decode(one) for one in expected["sentence_piece"]]
    (TOKENIZERS / "expected.json").write_text(json.dumps(expected, ensure_ascii=True) + "\n")


def permute(weights, heads):
    """The order of rows that GGUF's llama wants (convert_hf_to_gguf.py)."""
    shape = weights.shape
    return weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def base(path, arch, hidden, inner, layers, heads, kv_heads, seed, rope_freqs=False, tied=True):
    random = np.random.default_rng(seed)
    head_dim = hidden // heads
    writer = gguf.GGUFWriter(path, arch)
    tokenizer = byte_level("qwen2" if arch == "qwen2" else "smollm")
    vocab = add_byte_level(writer, tokenizer, "qwen2" if arch == "qwen2" else "smollm")
    writer.add_context_length(256)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(head_dim)
    if arch == "phi3":
        writer.add_sliding_window(256)
    matrix = lambda rows, cols: (random.standard_normal((rows, cols)) * 0.7 / cols**0.5).astype(np.float32)
    norm = lambda: (1 + 0.2 * random.standard_normal(hidden)).astype(np.float32)
    add = lambda name, values: writer.add_tensor(name, np.ascontiguousarray(values))
    add("token_embd.weight", matrix(vocab, hidden) * hidden**0.5 * 1.2)
    if not tied:
        add("output.weight", matrix(vocab, hidden))
    add("output_norm.weight", norm())
    if rope_freqs:
        add("rope_freqs.weight", np.linspace(1, 8, head_dim // 2).astype(np.float32))
    for layer in range(layers):
        put = lambda name, values: add(f"blk.{layer}.{name}", values)
        order = permute if arch == "llama" else lambda weights, heads: weights
        q, k, v = matrix(heads * head_dim, hidden), matrix(kv_heads * head_dim, hidden), matrix(kv_heads * head_dim, hidden)
        put("attn_norm.weight", norm())
        if arch == "phi3":
            put("attn_qkv.weight", np.concatenate([q, k, v]))
        else:
            put("attn_q.weight", order(q, heads))
            put("attn_k.weight", order(k, kv_heads))
            put("attn_v.weight", v)
        if arch == "qwen2":
            for part, width in [("q", heads), ("k", kv_heads), ("v", kv_heads)]:
                put(f"attn_{part}.bias", (0.3 * random.standard_normal(width * head_dim)).astype(np.float32))
        put("attn_output.weight", matrix(hidden, heads * head_dim))
        put("ffn_norm.weight", norm())
        gate, up = matrix(inner, hidden), matrix(inner, hidden)
        if arch == "phi3":
            put("ffn_up.weight", np.concatenate([gate, up]))
        else:
            put("ffn_gate.weight", gate)
            put("ffn_up.weight", up)
        put("ffn_down.weight", matrix(hidden, inner))
    close(writer)
    return vocab


def quantise(source, target, ftype):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = ftype, 1
    assert llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) == 0


def logits(path, sequences):
    rows = []
    for tokens in sequences:
        llama = llama_cpp.Llama(str(path), n_ctx=256, n_batch=256, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False)
        llama.eval(list(map(int, tokens)))
        rows.append(np.array(llama.scores[: len(tokens)], dtype=np.float32))
        llama.close()
    return rows


def bases():
    shutil.rmtree(BASES, ignore_errors=True)
    BASES.mkdir()
    small, large = dict(hidden=128, inner=128, layers=2, heads=4, kv_heads=2), dict(hidden=256, inner=256, layers=1, heads=4, kv_heads=1)
    F32, F16, Q4_0, Q8_0, Q5_0, Q4_K_M, Q5_K_M, Q6_K = 0, 1, 2, 7, 8, 15, 17, 18
    wanted = [
        ("llama-q8_0", "llama", small, Q8_0, {}),
        ("llama-q4_0", "llama", small, Q4_0, dict(rope_freqs=True)),
        ("llama-q5_0", "llama", small, Q5_0, {}),
        ("llama-q4_k_m", "llama", large, Q4_K_M, {}),
        ("qwen2-q8_0", "qwen2", small, Q8_0, {}),
        ("qwen2-q5_k_m", "qwen2", dict(large, inner=256), Q5_K_M, {}),
        ("phi3-q4_0", "phi3", dict(small, kv_heads=4), Q4_0, dict(tied=False)),
        ("llama-f16", "llama", dict(hidden=64, inner=96, layers=2, heads=4, kv_heads=2), F16, {}),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for seed, (name, arch, sizes, ftype, more) in enumerate(wanted):
            plain, target = pathlib.Path(folder) / "plain.gguf", BASES / f"{name}.gguf"
            vocab = base(plain, arch, seed=seed, **sizes, **more)
            quantise(plain, target, ftype)
            sequences = [np.random.default_rng(seed).integers(2, vocab, length) for length in (40, 75)]
            rows = logits(target, sequences)
            # f16 holds the logits to three digits and more; every third position keeps the files small.
            keep = {f"logits.{i}": row[::3].astype(np.float16) for i, row in enumerate(rows)}
            keep |= {f"tokens.{i}": tokens.astype(np.int32) for i, tokens in enumerate(sequences)}
            save_file(keep, BASES / f"{name}.safetensors")
            print(name, target.stat().st_size, float(np.std(rows[0])))


tokenizers()
bases()
