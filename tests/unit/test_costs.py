"""What devices can do, what models cost, and what compiled programs tell of themselves."""

import dataclasses

import numpy as np
import pytest

from jaxfdsl import config as c
from jaxfdsl import dryrun, load_config
from jaxfdsl.config import ConfigError
from jaxfdsl.costs import collectives, devices, flops, images, page, plan, reached
from jaxfdsl.models import denoiser, variants, vit

# Names as JAX gives them, and dense TFLOP/s of the makers' data sheets.
PEAKS = {
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5": 459,
    "TPU v6 lite": 918,
    "Tesla T4": 65,
    "Tesla V100-SXM2-16GB": 125,
    "NVIDIA L4": 121,
    "NVIDIA L40S": 362,
    "NVIDIA A10G": 70,
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA H100 80GB HBM3": 989,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA H100 NVL": 835,
    "NVIDIA H200": 989,
    "NVIDIA B200": 2250,
    "NVIDIA GeForce RTX 4090": 165,
    "AMD Instinct MI300X": 1307,
}


def test_devices_are_known_by_the_names_that_jax_gives_them():
    assert {kind: devices.peak(kind) for kind in PEAKS} == {k: v * 1e12 for k, v in PEAKS.items()}
    assert devices.peak("cpu") is None and devices.peak("NVIDIA GeForce GTX 1080") is None
    assert devices.find("NVIDIA A100-SXM4-40GB").memory == 40e9
    assert devices.find("NVIDIA A100-SXM4-80GB").memory == 80e9


def test_float32_is_slower_where_the_hardware_says_so():
    assert devices.peak("Tesla T4", "float32") == 8.1e12
    assert devices.peak("NVIDIA A100-SXM4-80GB", "float32") == 156e12  # TF32
    assert devices.KINDS["t4"].dtype == "float32" and devices.KINDS["l4"].dtype == "bfloat16"


def test_devices_are_typed_as_name_and_number():
    assert devices.read("tpu-v5e-256") == ("tpu-v5e", 256)
    assert devices.read("a100-40gb-8") == ("a100-40gb", 8)
    assert devices.read("local") == ("local", 0)
    for typed, hint in [
        ("h20-8", "Did you mean --devices=h200-8?"),
        ("h100", "type --devices=h100-8"),
        ("v5e-16", "Did you mean --devices=tpu-v5e-16?"),
    ]:
        with pytest.raises(ConfigError) as caught:
            devices.read(typed)
        assert hint in str(caught.value)


def test_hosts_hold_eight_gpus_or_four_chips():
    hosts = [devices.Fleet(devices.KINDS[name], 64).processes for name in ("h100", "tpu-v5e")]
    assert hosts == [8, 16]


def test_the_expected_share_follows_the_width():
    def share(platform, **model):
        config = load_config("vitti_1k:rcdb", **{f"model.{k}": v for k, v in model.items()})
        return reached.expected(vit.design_of(config.model, 10, "float32"), platform).value

    assert [share("tpu", variant=name) for name in ("vit_ti", "vit_s", "vit_b")] == [0.2, 0.3, 0.4]
    assert share("gpu", image_size=32, patch_size=4) == 0.045
    assert share("gpu", variant="vit_l") == share("gpu", variant="vit_b")


# Peebles and Xie, arXiv 2212.09748, table 4: Gflops of DiT-*/2 on the latents of 256 pixels, where
# a multiplication with its addition is one.
DIT = {"dit_s": 6.06, "dit_b": 23.01, "dit_l": 80.71, "dit_xl": 118.64}


def latent_run(variant: str = "dit_s", condition: str = "label") -> c.ConfigDict:
    config = c.default_config()
    config.update(batch_size=256, steps=1000)
    config.model.update(image_size=256, patch_size=2, variant=variant, autoencoder="/nowhere/vae")
    config.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3)
    config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
    config.data.condition = condition
    config.data.sources.a = c.tfds_source("imagenet2012", data_dir="/nowhere")
    return config


def test_denoisers_cost_what_is_published():
    made = plan.make(latent_run("dit_xl"), devices.Fleet(devices.KINDS["h200"], 8))
    assert made.autoencoder is not None and made.design.channels == 4 and made.design.tokens == 256
    for name, published in DIT.items():
        # It puts out variances too, and looks its classes up in a table.
        theirs = {"size": variants.DENOISERS[name], "output_channels": 8, "cond_size": 0}
        design = dataclasses.replace(made.design, **theirs)
        assert flops.denoising(design) / 2e9 == pytest.approx(published, abs=0.1), name


def test_a_dry_run_tells_of_the_autoencoder():
    config = latent_run()
    config.model.update(width=32, depth=1, num_heads=2)
    report = dryrun.report(config, "h200-8")
    told = "\n".join(page.lines(report))
    assert "Autoencoder: 83,653,863 parameters, frozen (assumed: Stable Diffusion's" in told
    assert "latents of 32 x 32 x 4 in patches of 2, 256 tokens" in told
    assert report.arguments["autoencoder"] == 2 * 83_653_863  # bfloat16
    assert report.flops_lowered == pytest.approx(report.flops, rel=0.15)
    assert report.encoding_seconds > 100 * report.model_seconds  # of a network this small


def test_a_sample_costs_its_velocities():
    design = denoiser.Design(
        variants.Variant(8, 1, 1), 8, 3, 2, 5, 3, "xla", False, "none", np.dtype("float32")
    )
    one = flops.denoising(design)
    assert flops.sampling(design, 25, "euler") == 25 * one
    assert flops.sampling(design, 25, "heun", guidance=2.0) == 100 * one
    half = dataclasses.replace(design, size=variants.Variant(4, 1, 1))
    wanted = 10 * (one + flops.denoising(half))
    assert flops.sampling(design, 10, "euler", 1.5, half) == wanted


def test_columns_of_absent_sets_are_assumed():
    config = latent_run(condition="rep:dinov2+label")
    condition = images.batches_of(config).condition
    assert (condition.size, condition.column) == (768 + 1000, "rep:dinov2")


def test_absent_sets_are_counted():
    entry = c.tfds_source("imagenet2012", classes="imagenet100.txt")
    assert images.images_of(entry) == ("100 of imagenet2012's classes", 128_000, 100)
    config = load_config("finetune:voc2012", **{"data.data_dir": "/nowhere"})
    (source,) = images.batches_of(config).sources.values()
    assert (source.num_classes, source.num_examples, source.several_labels) == (20, 5_717, True)


def test_collectives_in_loops_count_as_often_as_they_run():
    text = """
%body (p: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %sum = (f32[8,2]{1,0}, f32[]) all-reduce(%a, %b), to_apply=%add
}

ENTRY %main (a: f32[4,2]) -> f32[4,2] {
  %while.1 = (s32[], f32[4,2]) while(%t), body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %all = bf16[4,2]{1,0} all-gather-start(%x), dimensions={0}
}
"""
    assert collectives.of_program(text) == {
        "all-reduce": collectives.Traffic(3, 3 * 8 * 2 * 4.0),
        "all-gather": collectives.Traffic(1, 4 * 2 * 2.0),
    }
