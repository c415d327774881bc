"""What a training step of timm's model costs in PyTorch, on one constant batch.

    python benchmarks/baselines_train.py --variant vit_s --batch 8
    python benchmarks/train_step.py --beside_torch    # beside ours, in turns

Forward, backward and update: cross-entropy with label smoothing, fused AdamW with decay on matrices
alone, scaled_dot_product_attention as timm calls it. GPU: bfloat16 autocast, cudnn.benchmark, TF32
for what is left in float32; CPU: float32. "compile" has model and loss under torch.compile with
fixed shapes, "eager" as they are. Needs torch and timm, and neither JAX nor this package: the
interpreter may be another one. With --serve it answers requests, a line of JSON each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, Queue
from typing import Any

NAMES = {
    "vit_ti": "vit_tiny_patch16_224",
    "vit_s": "vit_small_patch16_224",
    "vit_b": "vit_base_patch16_224",
    "vit_l": "vit_large_patch16_224",
}
MODES = ("eager", "compile")


def make_step(variant: str, batch: int, mode: str, classes: int = 1000) -> Callable[[], Any]:
    """One step as a call; the first has run."""
    import timm
    import torch
    from timm.optim import param_groups_weight_decay

    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high" if gpu else "highest")
    model = timm.create_model(NAMES[variant], num_classes=classes).to(device).train()
    groups = param_groups_weight_decay(model, 0.05)
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    images = torch.randn(batch, 3, 224, 224, device=device)
    labels = torch.randint(classes, (batch,), device=device)

    def loss_of(images: Any, labels: Any) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=gpu):
            logits = model(images)
        return torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.1)

    if mode == "compile":
        torch._dynamo.reset()  # another batch must not make the shapes dynamic
        loss_of = torch.compile(loss_of, dynamic=False)

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(images, labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(3 if gpu else 1):
        float(step())
    return step


def spent(step: Callable[[], Any], count: int) -> tuple[float, float]:
    """Wall and CPU seconds of a step, over `count` that are waited for once."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        loss = step()
    float(loss)
    return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count


def top_operations(step: Callable[[], Any], count: int = 10) -> list[tuple[str, float]]:
    """The `count` GPU operations (kernels) that took longest, in seconds a step."""
    import torch
    from torch.profiler import ProfilerActivity

    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as profile:
        for _ in range(3):
            loss = step()
        float(loss)
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    return [(event.key, event.self_device_time_total / 3e6) for event in events[:count]]


class Answers:
    """What a serving process does for each request; steps are kept by name."""

    def __init__(self):
        self.steps: dict[str, Callable[[], Any]] = {}

    def hello(self) -> dict[str, Any]:
        import timm
        import torch

        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        versions = {"torch": torch.__version__, "timm": timm.__version__}
        return {**versions, "device": name, "threads": torch.get_num_threads()}

    def prepare(self, name: str, variant: str, batch: int, mode: str) -> dict[str, Any]:
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        self.steps[name] = make_step(variant, batch, mode)
        found: dict[str, Any] = {"compile_seconds": time.perf_counter() - began}
        if torch.cuda.is_available():
            found["peak_bytes"] = torch.cuda.max_memory_allocated()
        return found

    def run(self, name: str, count: int) -> dict[str, Any]:
        wall, cpu = spent(self.steps[name], count)
        return {"wall": wall, "cpu": cpu}

    def profile(self, name: str) -> dict[str, Any]:
        return {"operations": top_operations(self.steps[name])}

    def drop(self) -> dict[str, Any]:
        import gc

        import torch

        self.steps.clear()
        torch._dynamo.reset()  # it holds the model too
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return {}


def serve(answers: Answers | None = None) -> None:
    """Answers requests from stdin on stdout; what libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answers = answers or Answers()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(answers, request.pop("do"))(**request)
        except Exception as error:  # out of memory is an answer too
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
            answers.steps.pop(request.get("name", ""), None)
        print(json.dumps(answer), file=out, flush=True)


class Torch:
    """A serving process, from another interpreter; its steps run while nothing runs here."""

    def __init__(self, python: str, script: str = __file__):
        # OpenMP's threads would go on spinning while ours are timed.
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        environment.pop("PYTHONPATH", None) if python != sys.executable else None
        self.process = subprocess.Popen(
            [python, script, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put('{"error": "the process of PyTorch ended"}')

    def send(self, do: str, **request: Any) -> None:
        """Asks, without waiting; every `send` needs its `receive`."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self._lines.put('{"error": "the process of PyTorch ended"}')

    def receive(self, timeout: float = 600.0) -> dict[str, Any]:
        try:
            return json.loads(self._lines.get(timeout=max(timeout, 1.0)))
        except Empty:
            self.process.kill()
            return {"error": f"no answer in {timeout:.0f} s"}

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        self.send(do, **request)
        return self.receive()

    def close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=NAMES, default="vit_ti")
    parser.add_argument("--batch", type=int, nargs="+", default=[8])
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of a round")
    parser.add_argument("--json", default="")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve()
    answers, rows = Answers(), []
    print(answers.hello())
    print("| batch | mode | img/s | ms | CPU ms | first step, s |\n|---|---|---|---|---|---|")
    for batch in args.batch:
        names = args.modes.split(",")
        first = {mode: answers.prepare(mode, args.variant, batch, mode) for mode in names}
        runs = [{mode: answers.run(mode, args.steps) for mode in names} for _ in range(args.rounds)]
        for mode in names:
            wall, cpu = (statistics.median(r[mode][k] for r in runs) for k in ("wall", "cpu"))
            began = first[mode]["compile_seconds"]
            print(f"| {batch} | {mode} | {batch / wall:.2f} | {wall * 1e3:.0f} |", end=" ")
            print(f"{cpu * 1e3:.0f} | {began:.0f} |")
            rows.append({"batch": batch, "mode": mode, "wall": wall, "cpu": cpu, **first[mode]})
        answers.drop()
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"variant": args.variant, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
