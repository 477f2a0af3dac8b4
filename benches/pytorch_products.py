"""One PyTorch process of the bench of the matrix peak: f32 products of given shapes on all threads.

    pytorch_products.py SHAPES-JSON MILLISECONDS

Prints JSON: for each (rows, inner, columns) the rate in GFLOP/s of the fastest product found in so many
milliseconds. The right side is transposed in memory, as a layer's weights are.
"""

import json
import sys
import time

import torch


def rate(rows, inner, columns, seconds):
    a, b = torch.rand(rows, inner), torch.rand(columns, inner)
    out = torch.empty(rows, columns)
    begin, fastest = time.perf_counter(), float("inf")
    while time.perf_counter() - begin < seconds or fastest == float("inf"):
        start = time.perf_counter()
        torch.mm(a, b.t(), out=out)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * rows * inner * columns / fastest / 1e9


def main():
    shapes, seconds = json.loads(sys.argv[1]), float(sys.argv[2]) / 1e3
    print(json.dumps({"gflops": [rate(*shape, seconds) for shape in shapes]}))


if __name__ == "__main__":
    main()
