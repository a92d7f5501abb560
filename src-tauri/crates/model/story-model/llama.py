"""A lean Llama for training: the shapes and names of the Hugging Face one, without its overhead, and a loss that never holds
the logits of a whole batch (they would be larger than the model)."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file


class Norm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        x = x.float()
        # In the type of the products that follow: else each of q, k and v would convert it anew.
        kind = torch.bfloat16 if torch.is_autocast_enabled(x.device.type) else x.dtype
        return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(kind)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, f, self.heads, self.kv = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"], c["num_key_value_heads"]
        self.head_dim = c["head_dim"]
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.q_proj, self.k_proj, self.v_proj = linear(d, self.heads * self.head_dim), linear(d, self.kv * self.head_dim), linear(d, self.kv * self.head_dim)
        self.o_proj = linear(self.heads * self.head_dim, d)
        self.gate_proj, self.up_proj, self.down_proj = linear(d, f), linear(d, f), linear(f, d)
        self.input_layernorm, self.post_attention_layernorm = Norm(d, c["rms_norm_eps"]), Norm(d, c["rms_norm_eps"])

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        h = self.input_layernorm(x)
        q = rotate(self.q_proj(h).view(b, t, self.heads, self.head_dim).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(h).view(b, t, self.kv, self.head_dim).transpose(1, 2), cos, sin)
        v = self.v_proj(h).view(b, t, self.kv, self.head_dim).transpose(1, 2)
        group = self.heads // self.kv
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(y.transpose(1, 2).reshape(b, t, -1))
        h = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Llama(nn.Module):
    """Tied embeddings only."""

    def __init__(self, c):
        super().__init__()
        self.config = c
        self.embed = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = Norm(c["hidden_size"], c["rms_norm_eps"])
        for q in self.parameters():
            if q.dim() == 2:
                nn.init.normal_(q, std=c.get("initializer_range", 0.02))
        half = torch.arange(0, c["head_dim"], 2).float() / c["head_dim"]
        theta = (c.get("rope_parameters") or {}).get("rope_theta", c.get("rope_theta", 10000.0))
        angle = torch.outer(torch.arange(c["max_position_embeddings"]).float(), theta ** -half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def hidden(self, ids):
        x = self.embed(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)

    def names(self):
        """Our parameter names to the Hugging Face ones."""
        out = {"embed.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
        for n, _ in self.named_parameters():
            if n.startswith("layers."):
                _, i, rest = n.split(".", 2)
                inside = "self_attn." if rest.startswith(("q_", "k_", "v_", "o_")) else "mlp." if "_proj" in rest else ""
                out[n] = f"model.layers.{i}.{inside}{rest}"
        return out

    def load(self, path):
        have = load_file(path)
        self.load_state_dict({ours: have[theirs].float() for ours, theirs in self.names().items()})

    def save(self, path, dtype=torch.float32):
        state = self.state_dict()
        save_file({theirs: state[ours].detach().to(dtype).cpu().contiguous() for ours, theirs in self.names().items()}, path, metadata={"format": "pt"})


class NextTokenLoss(torch.autograd.Function):
    """Weighted mean cross-entropy of `hidden @ embedding.T`, in chunks: each chunk's logits live only until its gradient is added."""

    @staticmethod
    def forward(ctx, hidden, weight, target, importance, chunk):
        kept = target >= 0
        rows = kept.nonzero().squeeze(1)
        h, t = hidden[rows].to(torch.bfloat16), target[rows]
        share = importance[rows, None] / importance[rows].sum()
        w = weight.to(torch.bfloat16)
        total, dh, dw = hidden.new_zeros((), dtype=torch.float32), torch.empty_like(h), torch.zeros_like(weight)
        for i in range(0, len(t), chunk):
            hc, tc = h[i:i + chunk], t[i:i + chunk]
            # In place and in pieces that stay in the cache: this is a third of a small model's step.
            logits = (hc @ w.T).float()
            logits.sub_(logits.amax(1, keepdim=True))
            picked = logits.gather(1, tc[:, None])
            norm = logits.exp_().sum(1, keepdim=True)
            total += (share[i:i + chunk] * (norm.log() - picked)).sum()
            if ctx.needs_input_grad[0]:
                g = logits.div_(norm)
                g.scatter_add_(1, tc[:, None], g.new_full((len(tc), 1), -1.0))
                g = g.mul_(share[i:i + chunk]).to(torch.bfloat16)
                dh[i:i + chunk] = g @ w
                dw += (g.T @ hc).float()
        if ctx.needs_input_grad[0]:
            full = torch.zeros_like(hidden)
            full[rows] = dh.to(hidden.dtype)
            ctx.save_for_backward(full, dw)
        return total

    @staticmethod
    def backward(ctx, grad):
        dh, dw = ctx.saved_tensors
        return dh * grad, dw * grad, None, None, None


def next_token_loss(hidden, weight, target, importance=None, chunk=256):
    """`target` below zero is not learned; `importance` weighs the others, evenly when left out."""
    importance = torch.ones(target.shape, device=target.device) if importance is None else importance
    return NextTokenLoss.apply(hidden, weight, target, importance, chunk)
