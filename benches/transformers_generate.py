"""One transformers process of the generate bench: greedy text from an exported folder.

    transformers_generate.py FOLDER PROMPT NEW REPEATS THREADS

Prints JSON: prompt tokens per second up to the first new token, new tokens per second after it, peak
resident memory in MB, and the ids chosen. The prompt is that of `generate.rs`.
"""

import json
import pathlib
import resource
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "core/train/fixtures"))

import torch
import transformers
from transformers import AutoModelForCausalLM

import cpu_torch  # noqa: F401


def main():
    folder, (prompt, new, repeats, threads) = sys.argv[1], map(int, sys.argv[2:])
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([[(at * 7919 + 13) % model.config.vocab_size for at in range(prompt)]])
    mask = torch.ones_like(ids)

    def text(tokens):
        start = time.perf_counter()
        found = model.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=tokens, pad_token_id=0, eos_token_id=None
        )
        return found[0, prompt:].tolist(), time.perf_counter() - start

    prefill, decode = [], []
    for _ in range(repeats + 1):
        _, first = text(1)
        chosen, whole = text(new)
        prefill.append(prompt / first)
        decode.append((new - 1) / (whole - first))
    found = {
        "prefill": statistics.median(prefill[1:]),
        "decode": statistics.median(decode[1:]),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "ids": chosen,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
