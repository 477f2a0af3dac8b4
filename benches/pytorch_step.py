"""One PyTorch process of the train-step bench: eager training steps of one of our presets.

    pytorch_step.py MODEL-JSON SEQUENCES STEPS|asked [f32|bf16] [cpu|cuda]

With `asked` it takes a step for each line of its input and prints the seconds of each. Prints JSON at
the end: the median tokens per second after two warm-up steps, and the most memory in MB: what is
resident of the process, or what PyTorch's allocator has taken of the GPU.
The fast spelling of eager PyTorch: fused attention, fused norm, fused AdamW, gradients set to none.
"""

import json
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, m):
        super().__init__()
        width, size = m["hidden_size"], m["hidden_size"] // m["heads"]
        self.heads, self.kv_heads, self.size = m["heads"], m["kv_heads"], size
        self.eps = m["norm_epsilon"]
        self.attention_norm = nn.Parameter(torch.full((width,), m["norm_init"]))
        self.mlp_norm = nn.Parameter(torch.full((width,), m["norm_init"]))
        linear = lambda a, b: nn.Linear(a, b, bias=False)
        self.q, self.o = linear(width, width), linear(width, width)
        self.k, self.v = linear(width, m["kv_heads"] * size), linear(width, m["kv_heads"] * size)
        self.gate, self.up = linear(width, m["ffn_size"]), linear(width, m["ffn_size"])
        self.down = linear(m["ffn_size"], width)

    def rotate(self, x, cos, sin):
        left, right = x.chunk(2, -1)
        return x * cos + torch.cat([-right, left], -1) * sin

    def forward(self, x, cos, sin):
        batch, length, width = x.shape
        y = F.rms_norm(x, (width,), self.attention_norm, self.eps)
        split = lambda z, heads: z.view(batch, length, heads, self.size).transpose(1, 2)
        q, k = (self.rotate(split(p(y), n), cos, sin) for p, n in ((self.q, self.heads), (self.k, self.kv_heads)))
        v = split(self.v(y), self.kv_heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, width))
        y = F.rms_norm(x, (width,), self.mlp_norm, self.eps)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m
        self.embedding = nn.Embedding(m["vocabulary"], m["hidden_size"])
        self.blocks = nn.ModuleList(Block(m) for _ in range(m["layers"]))
        self.norm = nn.Parameter(torch.full((m["hidden_size"],), m["norm_init"]))
        self.head = nn.Linear(m["hidden_size"], m["vocabulary"], bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=m["init_std"])
        size = m["hidden_size"] // m["heads"]
        exponent = torch.arange(0, size, 2, dtype=torch.float64) / size
        angle = torch.arange(m["sequence_length"], dtype=torch.float64)[:, None] / m["rope_base"] ** exponent
        angle = torch.cat([angle, angle], -1)
        self.register_buffer("cos", angle.cos().float())
        self.register_buffer("sin", angle.sin().float())

    def forward(self, ids):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(F.rms_norm(x, (x.shape[-1],), self.norm, self.m["norm_epsilon"]))


class Training:
    """A model with its first values and the optimizer of our runs."""

    def __init__(self, m, sequences, bf16=False, device="cpu"):
        torch.manual_seed(1)
        self.m, self.sequences, self.bf16, self.device = m, sequences, bf16, device
        self.model = Decoder(m).to(device)
        groups = [
            {"params": [p for p in self.model.parameters() if p.dim() == 2], "weight_decay": 0.1},
            {"params": [p for p in self.model.parameters() if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)

    def tokens(self):
        shape = (self.sequences, self.m["sequence_length"] + 1)
        return torch.randint(self.m["vocabulary"], shape).to(self.device)

    def step(self, tokens):
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            logits = self.model(tokens[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()


def main():
    m, sequences, steps = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    bf16, device = "bf16" in sys.argv[4:], "cuda" if "cuda" in sys.argv[4:] else "cpu"
    training = Training(m, sequences, bf16, device)

    def step():
        tokens = training.tokens()
        start = time.perf_counter()
        training.step(tokens)
        return time.perf_counter() - start

    for _ in range(2):
        step()
    if steps == "asked":
        print(json.dumps({"ready": True}), flush=True)
        seconds = []
        for _ in sys.stdin:
            seconds.append(step())
            print(json.dumps({"seconds": seconds[-1]}), flush=True)
    else:
        seconds = [step() for _ in range(int(steps))]
    if device == "cuda":
        peak_mb, name = torch.cuda.max_memory_reserved() / 1e6, torch.cuda.get_device_name()
    else:
        peak_mb, name = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "cpu"
    found = {
        "tokens_per_second": sequences * m["sequence_length"] / statistics.median(seconds),
        "peak_mb": peak_mb,
        "device": name,
        "threads": torch.get_num_threads(),
        "version": torch.__version__,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
