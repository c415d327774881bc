"""Whole runs of drawn and real images, without TensorFlow or PyTorch in the process."""

import os
import subprocess
import sys

CODE = """
import sys
from jaxfdsl import config as c, load_config, train

small = {{
    "batch_size": 8, "steps": 2, "epochs": 0.0, "schedule.warmup_steps": 0,
    "schedule.warmup_epochs": 0.0, "model.width": 32, "model.depth": 1, "model.num_heads": 2,
    "model.image_size": 32, "model.patch_size": 16, "dtype": "float32",
    "data.data_dir": {tfds_dir!r}, "evals.test.num_examples": 16,
    "data.sources.cifar10.num_examples": 64, "data.sources.cifar10.share": 0.5,
    "augment.rand_augment": "",  # long to compile
}}
for name, init in ("first", ""), ("second", "first"):
    config = load_config("finetune:cifar10", **small, init_from=init)
    with config.unlocked():
        config.data.sources.drawn = c.formula_source("fractaldb-1k", num_classes=8, share=0.5)
    train.run(config, name)
roots = {{name.partition(".")[0] for name in sys.modules}}
print("found:", *sorted(roots & {{"tensorflow", "torch", "clu", "generators", "configs"}}))
"""


def test_no_other_framework_is_imported_by_whole_runs(shared_data, tmp_path):
    code = CODE.format(tfds_dir=str(shared_data / "tfds"))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    env.pop("XLA_FLAGS", None)  # the whole runs that are compiled as users compile theirs
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "found:"
    pictures = ("gallery.png", "curves.png")
    for left in (*pictures, "metrics.jsonl", "config.json", "run.json", "summary.json"):
        assert (tmp_path / "second" / left).stat().st_size > 0
