"""Trains the story model from packed rows (prepare.py). Llama architecture; the same code on CPU and GPU.

usage: train.py --data DIR --out DIR --resume FOLDER [--optimizer muon|adamw] ...
The rate warms up and stays (on main.npy) until the file OUT/decay appears; it holds a number of tokens in millions, over which the
rate then falls linearly to zero (on anneal.npy). Rewriting the number shortens or lengthens what is left. So a training on a machine
whose speed nobody can foretell still ends well at a chosen time. Saves to OUT every --save-minutes.
"""

import argparse
import datetime
import json
import os
import shutil
import time

import numpy as np
import torch
import torch.distributed

from llama import Llama, next_token_loss

p = argparse.ArgumentParser()
p.add_argument("--data", required=True)
p.add_argument("--out", required=True)
p.add_argument("--resume", help="a Hugging Face folder to go on from")
p.add_argument("--config", help="a config.json to start from scratch with")
p.add_argument("--optimizer", default="muon")
p.add_argument("--lr", type=float, default=1e-3, help="AdamW's rate")
p.add_argument("--muon-lr", type=float, default=5e-3)
p.add_argument("--weight-decay", type=float, default=0.05)
p.add_argument("--batch", type=int, default=16, help="rows a step")
p.add_argument("--warmup", type=int, default=60)
p.add_argument("--save-minutes", type=float, default=5)
p.add_argument("--log-minutes", type=float, default=1)
p.add_argument("--max-tokens", type=float, default=1e9, help="in millions")
p.add_argument("--threads", type=int, default=2)
p.add_argument("--seed", type=int, default=1)
p.add_argument("--compile", action="store_true")
p.add_argument("--copy-weight", type=float, default=1.0, help="weight of a prompt word's first use in its story")
p.add_argument("--anneal-only", action="store_true", help="start on anneal.npy")
a = p.parse_args()

# Started by torchrun, each process takes its share of every batch and the gradients are averaged. On a busy CPU one thread in each
# of two processes is faster than two threads in one: they wait for each other once a step and not at every product.
world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
if world > 1:
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=datetime.timedelta(hours=2))
torch.manual_seed(a.seed)
cuda = torch.cuda.is_available()
device = "cuda" if cuda else "cpu"
if not cuda:
    torch.set_num_threads(a.threads)
os.makedirs(a.out, exist_ok=True)
source = a.resume or os.path.dirname(a.config)
config = json.load(open(f"{source}/config.json"))
model = Llama(config)
if a.resume:
    model.load(f"{a.resume}/model.safetensors")
model.to(device).train()

hidden = [q for n, q in model.named_parameters() if q.dim() == 2 and "embed" not in n]
other = [q for n, q in model.named_parameters() if q.dim() != 2 or "embed" in n]
if a.optimizer == "muon":
    # Muon's rate is scaled by sqrt(max(1, rows / columns)); weight decay is decoupled in both.
    optimizers = [torch.optim.Muon(hidden, lr=a.muon_lr, weight_decay=a.weight_decay, momentum=0.95),
                  torch.optim.AdamW(other, lr=a.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
else:
    optimizers = [torch.optim.AdamW([dict(params=hidden, weight_decay=a.weight_decay), dict(params=other, weight_decay=0.0)],
                                    lr=a.lr, betas=(0.9, 0.95), fused=True)]
if a.resume and os.path.exists(f"{a.resume}/optimizer.pt"):
    for o, s in zip(optimizers, torch.load(f"{a.resume}/optimizer.pt", map_location=device, weights_only=True)):
        o.load_state_dict(s)
for o in optimizers:
    for g in o.param_groups:
        g["rate"] = a.muon_lr if isinstance(o, torch.optim.Muon) else a.lr

forward = torch.compile(model.hidden, dynamic=False) if a.compile else model.hidden
tokenizer = json.load(open(f"{source}/tokenizer.json"))
special = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}


def targets_of(rows):
    """Next tokens; those of the header (genre, style, prompt) and padding are not learned: at use they are always given."""
    header, inside = torch.zeros_like(rows, dtype=torch.bool), torch.cumsum((rows == special["<|genre|>"]).int() - (rows == special["<|story|>"]).int(), 1)
    header |= inside > 0
    header |= (rows == special["<|story|>"]) | (rows == special["<|pad|>"])
    return torch.where(header, -100, rows)[:, 1:]


# Each token's number without case and leading space, so that "Fox" in a prompt is " fox" in its story; -1 for what is no content
# word: special tokens, the most frequent tokens and what has no two letters.
folded, by_text = torch.full((config["vocab_size"],), -1), {}
for text, number in tokenizer["model"]["vocab"].items():
    bare = text.removeprefix("Ġ").lower()
    if number not in special.values() and len(bare) > 1 and bare.isalpha():
        folded[number] = by_text.setdefault(bare, number)


def forget_frequent(rows, count=300):
    seen = folded[rows[:2000].long().flatten()]
    frequent = torch.bincount(seen[seen >= 0], minlength=config["vocab_size"]).topk(count).indices
    folded[torch.isin(folded, frequent)] = -1


def importance_of(rows):
    """Weights of next tokens: the first use of a prompt's word in its story counts --copy-weight times. What a reader notices first is
    whether the story is about what was asked for, and among two hundred tokens those few would hardly be learned."""
    out = torch.ones(rows.shape)
    words = folded[rows].tolist()
    for i, row in enumerate(rows.tolist()):
        wanted, in_prompt = set(), False
        for j, token in enumerate(row):
            if token == special["<|prompt|>"]:
                wanted, in_prompt = set(), True
            elif token == special["<|story|>"]:
                in_prompt = False
            elif in_prompt:
                wanted.add(words[i][j])
            elif words[i][j] >= 0 and words[i][j] in wanted:
                wanted.discard(words[i][j])
                out[i, j] = a.copy_weight
    return out[:, 1:]


def load(name):
    return torch.from_numpy(np.load(f"{a.data}/{name}.npy").astype(np.int32))


def batch_loss(rows, compiled=True, weighted=False):
    importance = importance_of(rows.long()).flatten().to(device) if weighted and a.copy_weight != 1 else None
    rows = rows.long().to(device, non_blocking=True)
    with torch.autocast(device, dtype=torch.bfloat16):
        h = (forward if compiled else model.hidden)(rows[:, :-1])
    return next_token_loss(h.flatten(0, 1), model.embed.weight, targets_of(rows).flatten(), importance)


@torch.no_grad()
def heldout():
    total = count = 0.0
    for rows in load("heldout").split(16):
        n = (targets_of(rows.long()) >= 0).sum().item()
        total += batch_loss(rows, compiled=False).item() * n
        count += n
    return total / count


def save():
    if rank:
        return
    model.save(f"{a.out}/model.safetensors")
    json.dump(config, open(f"{a.out}/config.json", "w"), indent=2)
    shutil.copy(f"{source}/tokenizer.json", f"{a.out}/tokenizer.json")
    torch.save([o.state_dict() for o in optimizers], f"{a.out}/optimizer.pt")


def decay_tokens():
    try:
        return float(open(f"{a.out}/decay").read()) * 1e6
    except (OSError, ValueError):
        return None


data, name = load("anneal" if a.anneal_only else "main"), "main"
if a.copy_weight != 1:
    forget_frequent(data)
if not rank:
    print(f"{sum(q.numel() for q in model.parameters()) / 1e6:.2f} M parameters, {data.shape}, {a.optimizer}, heldout {heldout():.4f}", flush=True)
start = last_log = last_save = time.time()
order, at, step, tokens, decay_from, running, busy = None, 0, 0, 0, None, None, 0.0
while tokens < a.max_tokens * 1e6:
    began = time.time()
    decay = decay_tokens()
    if world > 1:  # the first process reads the file for all, so that all change at the same step
        told = [decay]
        torch.distributed.broadcast_object_list(told)
        decay = told[0]
    if decay is not None and decay_from is None:
        save()
        if not rank:
            shutil.copytree(a.out, f"{a.out}-before-decay", dirs_exist_ok=True)
        decay_from, data, order, name = tokens, load("anneal"), None, "anneal"
    if order is None or at + a.batch > len(order):
        order, at = torch.randperm(len(data)), 0
    rows = data[order[at:at + a.batch]]
    tokens += int((rows != special["<|pad|>"]).sum())
    rows, at = rows[rank::world], at + a.batch
    scale = min(1.0, (step + 1) / a.warmup)
    if decay_from is not None:
        left = 1 - (tokens - decay_from) / max(decay, 1)
        if left <= 0:
            break
        scale *= left
    for o in optimizers:
        for g in o.param_groups:
            g["lr"] = g["rate"] * scale
        o.zero_grad(set_to_none=True)
    loss = batch_loss(rows, weighted=True)
    loss.backward()
    if world > 1:
        flat = torch.cat([q.grad.flatten() for q in model.parameters()])
        torch.distributed.all_reduce(flat)
        for q, g in zip(model.parameters(), flat.split([q.numel() for q in model.parameters()])):
            q.grad.copy_(g.view_as(q) / world)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for o in optimizers:
        o.step()
    step += 1
    running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
    busy += time.time() - began
    if time.time() - last_log > 60 * a.log_minutes:
        last_log = time.time()
        if not rank:
            print(f"{(last_log - start) / 60:6.1f} min {name} step {step} {tokens / 1e6:.2f} M tokens {tokens / busy:.0f} tok/s loss {running:.3f} "
                  f"heldout {heldout():.4f} rate x {scale:.3f}", flush=True)
    if time.time() - last_save > 60 * a.save_minutes:
        last_save = time.time()
        save()
save()
if not rank:
    print(f"done: {tokens / 1e6:.2f} M tokens, heldout {heldout():.4f}", flush=True)
