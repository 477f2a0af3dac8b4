"""Where the time of an eager PyTorch training step goes, by torch.profiler: the step of pytorch_step.py.

    pytorch_profile.py MODEL-JSON SEQUENCES STEPS

Prints JSON: milliseconds a step of matrix products with weights, of attention and of everything else that
PyTorch's operators do, and of the whole step, after two steps that are not counted. The profiler watches
all of them, so the whole is a little more than without it.
"""

import json
import os
import sys
import time

# Before torch is loaded: its profiler reports to standard error that there is no GPU.
os.environ["KINETO_LOG_LEVEL"] = "99"

from torch.profiler import ProfilerActivity, profile

from pytorch_step import Training


def kind(name):
    if name in ("aten::mm", "aten::addmm", "aten::bmm"):
        return "products"
    return "attention" if "scaled_dot_product" in name else "others"


def main():
    m, sequences, steps = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    training = Training(m, sequences)
    for _ in range(2):
        training.step(training.tokens())
    batches = [training.tokens() for _ in range(steps)]
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for tokens in batches:
            training.step(tokens)
        seconds = time.perf_counter() - start
    milliseconds = {"products": 0.0, "attention": 0.0, "others": 0.0}
    for average in found.key_averages():
        milliseconds[kind(average.key)] += average.self_cpu_time_total / 1e3 / steps
    print(json.dumps({**milliseconds, "whole": 1e3 * seconds / steps}))


if __name__ == "__main__":
    main()
