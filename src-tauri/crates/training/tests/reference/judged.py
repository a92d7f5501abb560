"""Makes judged.json: losses of DPO, KTO and ORPO by TRL's own trainers and functions on torch and PEFT, in f32.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 trl==1.16.0
    /tmp/reference/bin/python judged.py > judged.json

The base and `noise` are those of lora.py. Twenty updates over one batch of everything, AdamW at a constant rate
of 0.01 with a decay of 0.01, nothing clipped.
"""
import contextlib
import io
import json
import sys
import tempfile
import types

with contextlib.redirect_stdout(io.StringIO()):  # it prints its own dump
    import lora

import datasets
import peft
import tokenizers
import torch
import transformers
import trl
from trl.experimental.orpo import ORPOTrainer

STEPS, BETA, EOS = 20, 0.5, 1
TRAINING = dict(per_device_train_batch_size=4, max_steps=STEPS, learning_rate=0.01, weight_decay=0.01, lr_scheduler_type="constant",
                max_grad_norm=0.0, logging_steps=1, report_to=[], use_cpu=True, gradient_checkpointing=False, bf16=False,
                save_strategy="no", disable_tqdm=True, seed=0)


def vocabulary():
    """Token i is the word `<i>`, so that no name of a special token is part of another name."""
    words = {f"<{i}>": i for i in range(lora.SHAPE["vocab_size"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<0>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=f"<{EOS}>", pad_token="<0>", unk_token="<0>")


def words(tokens):
    return "".join(f" <{token}>" for token in tokens.tolist())


def fresh(dora):
    """An adapter that changes nothing yet, so that TRL's reference (the adapter at the start) is the bare base.

    A is noise with one seed for each module, counted from 3000; B is zero; magnitudes are the lengths of the rows.
    """
    config = transformers.LlamaConfig(**lora.SHAPE, tie_word_embeddings=True, attn_implementation="eager",
                                      rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    model = transformers.LlamaForCausalLM(config)
    lora.fill(model, True)
    tuned = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=lora.MODULES,
                                                       lora_dropout=0.0, use_dora=dora))
    seed = 3000
    for layer in tuned.base_model.model.model.layers:
        for name in lora.MODULES:
            a = getattr(layer.self_attn if name in lora.MODULES[:4] else layer.mlp, name).lora_A["default"].weight
            a.data = lora.noise(seed, a.numel()).reshape(a.shape) / 4
            seed += 1
    return tuned


def texts():
    """Prompts, chosen and rejected answers; TRL ends each with EOS."""
    return [(lora.tokens(1000 + i, 3), lora.tokens(2000 + i, 4 + i), lora.tokens(3000 + i, 6 - i)) for i in range(4)]


def trained(trainer):
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def dpo(dora):
    tuned = fresh(dora)
    rows = [dict(prompt=words(p), chosen=words(c), rejected=words(r)) for p, c, r in texts()]
    args = trl.DPOConfig(output_dir=tempfile.mkdtemp(), beta=BETA, **TRAINING)
    return trained(trl.DPOTrainer(model=tuned, args=args, train_dataset=datasets.Dataset.from_list(rows), processing_class=vocabulary()))


def kto(dora, loss_type):
    tuned = fresh(dora)
    rows = [dict(prompt=words(p), completion=words(c), label=i % 2 == 0) for i, (p, c, _) in enumerate(texts())]
    training = dict(TRAINING)
    if loss_type == "kto":  # of two texts, each is the other's neighbour in whatever order
        rows = rows[:2]
        training.update(per_device_train_batch_size=2, train_sampling_strategy="sequential")
    args = trl.KTOConfig(output_dir=tempfile.mkdtemp(), beta=BETA, loss_type=loss_type, **training)
    return trained(trl.KTOTrainer(model=tuned, args=args, train_dataset=datasets.Dataset.from_list(rows), processing_class=vocabulary()))


def by_hand(dora, loss):
    """Losses of what TRL has no trainer for, or one that counts the prompt too."""
    tuned = fresh(dora)
    parameters = [p for p in tuned.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.01)
    end = torch.tensor([EOS])
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        both = [[lora.log_probability(tuned, p, torch.cat([a, end])) for a in (c, r)] for p, c, r in texts()]
        lengths = [[len(a) + 1 for a in (c, r)] for _, c, r in texts()]
        value = loss(torch.stack([torch.stack(pair) for pair in both]), torch.tensor(lengths))
        value.backward()
        losses.append(value.item())
        optimizer.step()
    return losses


def reference_free(sums, _):
    return -torch.nn.functional.logsigmoid(BETA * (sums[:, 0] - sums[:, 1])).mean()


def orpo(sums, lengths):
    """TRL's odds ratio; the likelihood over answers only, each pair alike."""
    means = sums / lengths
    itself = types.SimpleNamespace(beta=BETA, accelerator=types.SimpleNamespace(device="cpu"))
    return (-means[:, 0] - ORPOTrainer.odds_ratio_loss(itself, means[:, 0], means[:, 1])[0]).mean()


print(json.dumps(dict(
    versions=dict(torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__, trl=trl.__version__),
    cases=[dict(kind=kind, dora=dora, losses=losses(dora)) for dora in [False, True] for kind, losses in [
        ("dpo", dpo), ("unpaired", lambda dora: kto(dora, "apo_zero_unpaired")), ("kto", lambda dora: kto(dora, "kto")),
        ("reference_free", lambda dora: by_hand(dora, reference_free)), ("orpo", lambda dora: by_hand(dora, orpo))]])))
