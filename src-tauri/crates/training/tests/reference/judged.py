"""Makes judged.json: losses of DPO, KTO and ORPO by TRL's own trainers and functions on torch and PEFT, in f32.

    python -m venv /tmp/reference && /tmp/reference/bin/pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 trl==1.16.0
    /tmp/reference/bin/python judged.py > judged.json

The base, the adapter and `noise` are those of lora.py. Twenty updates over one batch of everything, AdamW at a constant rate
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
    """Token i is the word `ti`."""
    words = {f"t{i}": i for i in range(lora.SHAPE["vocab_size"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="t0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=f"t{EOS}", pad_token="t0", unk_token="t0")


def words(tokens):
    return "".join(f" t{token}" for token in tokens.tolist())


def texts():
    """Prompts, chosen and rejected answers; TRL ends each with EOS."""
    return [(lora.tokens(1000 + i, 3), lora.tokens(2000 + i, 4 + i), lora.tokens(3000 + i, 6 - i)) for i in range(4)]


def trained(trainer):
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def dpo(dora):
    tuned, _ = lora.adapted(dora, False)
    rows = [dict(prompt=words(p), chosen=words(c), rejected=words(r)) for p, c, r in texts()]
    args = trl.DPOConfig(output_dir=tempfile.mkdtemp(), beta=BETA, **TRAINING)
    return trained(trl.DPOTrainer(model=tuned, args=args, train_dataset=datasets.Dataset.from_list(rows), processing_class=vocabulary()))


def kto(dora, loss_type):
    tuned, _ = lora.adapted(dora, False)
    rows = [dict(prompt=words(p), completion=words(c), label=i % 2 == 0) for i, (p, c, _) in enumerate(texts())]
    extra = dict(train_sampling_strategy="sequential") if loss_type == "kto" else {}
    args = trl.KTOConfig(output_dir=tempfile.mkdtemp(), beta=BETA, loss_type=loss_type, **TRAINING, **extra)
    return trained(trl.KTOTrainer(model=tuned, args=args, train_dataset=datasets.Dataset.from_list(rows), processing_class=vocabulary()))


def by_hand(dora, loss):
    """Losses of what TRL has no trainer for, or one that counts the prompt too."""
    tuned, parameters = lora.adapted(dora, False)
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
