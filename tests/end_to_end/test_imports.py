"""Two whole runs, drawn and real, without TensorFlow or PyTorch in the process."""

import os
import subprocess
import sys

CODE = """
import sys
from jaxfdsl import load_config, train

small = {{
    "batch_size": 8, "steps": 2, "epochs": 0.0, "schedule.warmup_steps": 0,
    "schedule.warmup_epochs": 0.0, "model.width": 32, "model.depth": 1, "model.num_heads": 2,
    "model.image_size": 32, "model.patch_size": 16, "dtype": "float32",
}}
train.run(load_config("demo", **small, **{{"evals.held_out.num_examples": 16}}), "drawn")
if {tfds_dir!r}:
    few = {{
        "data.data_dir": {tfds_dir!r}, "evals.test.num_examples": 16, "init_from": "drawn",
        "data.sources.cifar10.num_examples": 64, "augment.rand_augment": "",  # long to compile
    }}
    train.run(load_config("finetune:cifar10", **small, **few), "real")
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
        assert (tmp_path / "drawn" / left).stat().st_size > 0
