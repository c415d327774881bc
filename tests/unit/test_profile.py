"""The longest operations of a trace, and a window of steps to trace."""

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from jaxfdsl.config import ConfigError, default_config
from jaxfdsl.report import profile

# Two streams of a GPU as JAX's tracer writes them: kernels (times in ps), and a thread of the host.
GPU = """
planes { name: "/host:CPU"
  lines { name: "python" events { metadata_id: 1 offset_ps: 0 duration_ps: 9000000 } }
  event_metadata { key: 1 value { id: 1 name: "train_step" } } }
planes { name: "/device:GPU:0"
  lines { name: "Stream #13(Compute)"
    events { metadata_id: 1 offset_ps: 0 duration_ps: 5000000 stats { metadata_id: 1 ref_value: 2 } }
    events { metadata_id: 2 offset_ps: 5000000 duration_ps: 1000000 }
    events { metadata_id: 1 offset_ps: 7000000 duration_ps: 1000000 stats { metadata_id: 1 ref_value: 2 } } }
  lines { name: "Stream #14(Memcpy)" events { metadata_id: 3 offset_ps: 0 duration_ps: 1000000 } }
  lines { name: "XLA Modules" events { metadata_id: 4 offset_ps: 0 duration_ps: 8000000 } }
  event_metadata { key: 1 value { id: 1 name: "nvjet_hsh_128x256_64x4_1x2" } }
  event_metadata { key: 2 value { id: 2 name: "input_add_reduce_fusion_3" } }
  event_metadata { key: 3 value { id: 3 name: "MemcpyD2D" } }
  event_metadata { key: 4 value { id: 4 name: "jit_train_step" } }
  stat_metadata { key: 1 value { id: 1 name: "hlo_module" } }
  stat_metadata { key: 2 value { id: 2 name: "jit_train_step" } } }
"""  # noqa: E501
# A loop and what runs inside it, on a TPU, whose plane sums them up once more.
TPU = """
planes { name: "/device:TPU:0"
  lines { name: "XLA Ops"
    events { metadata_id: 1 offset_ps: 0 duration_ps: 9000000 }
    events { metadata_id: 2 offset_ps: 1000000 duration_ps: 3000000 }
    events { metadata_id: 2 offset_ps: 4000000 duration_ps: 3000000 }
    events { metadata_id: 3 offset_ps: 9000000 duration_ps: 2000000 } }
  lines { name: "Steps" events { metadata_id: 4 offset_ps: 0 duration_ps: 11000000 } }
  event_metadata { key: 1 value { id: 1 name: "while.7" } }
  event_metadata { key: 2 value { id: 2 name: "convolution_fusion.2" } }
  event_metadata { key: 3 value { id: 3 name: "all-reduce.1" } }
  event_metadata { key: 4 value { id: 4 name: "1" } } }
"""


def trace(folder, text):
    place = folder / "plugins" / "profile" / "2026_01_01_00_00_00"
    place.mkdir(parents=True)
    data = jax.profiler.ProfileData.text_proto_to_serialized_xspace(text)
    (place / "host.xplane.pb").write_bytes(data)
    return [
        (row.kind, row.name, row.calls, round(1e6 * row.seconds, 3), row.share)
        for row in profile.top_operations(folder)
    ]


def test_kernels_of_a_gpu_are_summed_over_its_streams(tmp_path):
    assert trace(tmp_path, GPU) == [
        ("matrix product", "nvjet_hsh_128x256_64x4_1x2", 2, 6.0, 0.75),
        ("copy", "MemcpyD2D", 1, 1.0, 0.125),
        ("reduction", "input_add_reduce_fusion_3", 1, 1.0, 0.125),
    ]
    assert profile.top_operations(tmp_path, 1)[0].program == "jit_train_step"


def test_what_runs_in_a_loop_counts_once(tmp_path):
    assert trace(tmp_path, TPU) == [
        ("convolution", "convolution_fusion.2", 2, 6.0, 0.75),
        ("communication", "all-reduce.1", 1, 2.0, 0.25),
    ]


def test_a_cpu_is_traced_and_its_longest_operation_is_the_product(tmp_path):
    product = jax.jit(lambda x: jnp.tanh(x @ x))
    x = jnp.ones((700, 700))
    product(x).block_until_ready()
    config, said = default_config(), []
    config.report.update(profile_start=5, profile_steps=2)
    window = profile.Window(config, epath.Path(tmp_path), said.append)
    metrics = None
    for step in range(10):
        window.before(step, metrics)
        metrics = product(x)
        if window.ends(step):
            window.end(metrics)
    window.close()
    first = profile.top_operations(tmp_path / "profile")[0]
    assert first.calls == 2 and first.share > 0.5 and "lambda" in first.program
    lines = said[0].splitlines()
    assert f"The profile is in {tmp_path / 'profile'}." in lines[0]
    assert first.name in lines[1] and " 2 x " in lines[1]


def test_without_a_trace_there_are_no_operations(tmp_path):
    assert profile.top_operations(tmp_path) == []


def test_a_window_beyond_the_run_is_refused():
    config = default_config()
    config.report.update(profile_start=90, profile_steps=20)
    profile.check(config, 110)
    with pytest.raises(ConfigError, match=r"beyond the run's 100: type .*profile_start=80 "):
        profile.check(config, 100)
