"""Every recipe under every argument: it loads, it is valid, and it has the published numbers."""

import importlib
import importlib.util
import pathlib

import pytest

from jaxfdsl import config as c
from jaxfdsl import load_config

ROOT = pathlib.Path(__file__).resolve().parents[2]


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


costs = script("recipe_costs")
TYPED = [typed.removesuffix(":NAME") for typed, _, _ in costs.recipes()]

# steps, batch, optimizer, rate, weight decay, warm-up steps, first and last rate, drop path,
# erasing, repeats, flips, mean: one line a recipe
PUBLISHED = """
vitb_exfractal                   230713 8192 adamw 1e-3 .05  12817 1e-4   1e-5   .1 .25 3 -    imagenet
vitb_exfractal_imagenet:mixed    230713 8192 adamw 1e-3 .05  12817 1e-4   1e-5   .1 .25 3 -    imagenet
vitb_exfractal_imagenet:phases   230713 8192 adamw 1e-3 .05  12817 1e-4   1e-5   .1 .25 3 -    imagenet
vitti_1k:fractaldb              1171875  256 adamw 3e-4 .05  39062 1e-6   1e-5   .1 .25 1 -    half
vitti_1k:exfractaldb            1171875  256 adamw 1e-3 .05  19531 1e-4   1e-5   .1 .25 3 -    imagenet
vitti_1k:rcdb                   1171875  256 adamw 1e-3 .05  19531 1e-4   1e-5   .1 .25 3 -    imagenet
vitti_1k:visualatom             1171875  256 adamw 1e-3 .05   5000 1e-6   1e-5   .1 .25 3 -    imagenet
vitti_21k:fractaldb              230713 8192 adamw 1e-3 .05  12817 1e-4   1e-5   .1 .25 3 -    imagenet
vitti_21k:exfractaldb            230713 8192 adamw 1e-3 .05  12817 1e-4   1e-5   .1 .25 3 -    imagenet
vitti_21k:rcdb                   230713 8192 adamw 1e-3 .05  12817 1e-4   1e-5   .1 .25 3 -    imagenet
vitti_21k:visualatom             230713 8192 adamw 1e-3 .05   5000 1e-6   1e-5   .1 .25 3 -    imagenet
vitti_one_instance:ofdb2d-1k     240000  256 adamw 5e-4 .05     15 1e-6   1e-5   .1 .5  1 lrud half
vitti_one_instance:ofdb3d-1k     240000  256 adamw 5e-4 .05     15 1e-6   1e-5   .1 .5  1 lrud half
vitti_one_instance:1p-frac       240000  256 adamw 5e-4 .05     15 1e-6   1e-5   .1 .5  1 lrud half
vitti_one_instance:ofdb2d-21k    300000 1024 adamw 5e-4 .05    100 1e-6   1e-5   .1 .5  1 lrud half
vitti_one_instance:ofdb3d-21k    300000 1024 adamw 5e-4 .05    100 1e-6   1e-5   .1 .5  1 lrud half
finetune:cifar10                  65104  768 sgd   .015 1e-4   651 1.5e-6 1.5e-5 0  0   1 lr   imagenet
finetune:cifar100                 65104  768 sgd   .015 1e-4   651 1.5e-6 1.5e-5 0  0   1 lr   imagenet
finetune:cars                     10604  768 sgd   .015 1e-4   106 1.5e-6 1.5e-5 0  0   1 lr   imagenet
finetune:flowers                   2656  768 sgd   .015 1e-4    27 1.5e-6 1.5e-5 0  0   1 lr   imagenet
finetune:voc2012                   7444  768 sgd   .015 1e-4    74 1.5e-6 1.5e-5 0  0   1 lr   imagenet
finetune:places30                192708  768 sgd   .015 1e-4  1927 1.5e-6 1.5e-5 0  0   1 lr   imagenet
finetune:imagenet100             166667  768 sgd   .015 1e-4  1667 1.5e-6 1.5e-5 0  0   1 lr   imagenet
finetune_imagenet:224            375342 1024 adamw 1e-3 .05   6256 1e-4   1e-5   .1 .25 3 lr   imagenet
finetune_imagenet:384             75068  512 adamw 5e-6 1e-8     0 1e-4   1e-5   .1 .25 3 lr   imagenet
"""  # noqa: E501
ROWS = [line.split() for line in PUBLISHED.strip().splitlines()]


@pytest.mark.parametrize("typed", TYPED)
def test_every_recipe_is_valid_on_one_and_on_eight_devices(typed):
    config = load_config(typed)
    for num_devices in (1, 8):
        c.validate(config, num_devices=num_devices)
    plain = config.copy_and_resolve_references().to_dict()
    assert c.from_json(c.to_json(config)).to_dict() == plain


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_published_numbers(row):
    config = load_config(row[0])
    rule, augment = config.schedule, config.augment
    images = [costs.images_of(entry) for entry in config.data.sources.values()]
    number = max(i.number for i in images)
    lengths = [c.total_steps(config, number), config.batch_size]
    numbers = [config.optimizer.learning_rate, config.optimizer.weight_decay]
    numbers += [c.warmup_steps(config, number), rule.warmup_from, rule.final]
    numbers += [config.model.drop_path, augment.erasing, config.data.repeats]
    assert lengths == [int(x) for x in row[1:3]]
    assert config.optimizer.name == row[3]
    assert numbers == pytest.approx([float(x) for x in row[4:12]], rel=1e-9)
    assert "lr" * augment.flip_lr + "ud" * augment.flip_ud == row[12].replace("-", "")
    assert augment.mean == {"half": (0.5, 0.5, 0.5), "imagenet": c.IMAGENET_MEAN}[row[13]]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_all_have_the_augmentation_of_deit(row):
    config = load_config(row[0])
    augment = config.augment
    assert augment.rand_augment == "rand-m9-mstd0.5-inc1"
    assert (augment.mixup, augment.cutmix, augment.mixup_switch) == (0.8, 1.0, 0.5)
    assert (augment.mixup_mode, augment.mixup_prob) == ("batch", 1.0)
    assert (augment.crop, augment.crop_scale) == ("random_resized", (0.08, 1.0))
    assert augment.color_jitter == 0.0  # timm has none beside RandAugment
    assert config.objective.classify.label_smoothing == 0.1


def test_vit_b_differs_from_vit_ti_in_the_model_alone():
    for recipe in ("1k:rcdb", "21k:visualatom", "one_instance:ofdb3d-21k"):
        large, small = (load_config(f"{model}_{recipe}") for model in ("vitb", "vitti"))
        assert (large.model.variant, small.model.variant) == ("vit_b", "vit_ti")
        small.model.variant = "vit_b"
        assert c.to_json(large) == c.to_json(small)


def test_the_main_recipe_is_a_row_of_the_table():
    main, row = load_config("vitb_exfractal"), load_config("vitb_21k:exfractaldb")
    for group in ("model", "optimizer", "schedule", "augment", "objective"):
        assert main[group].to_dict() == row[group].to_dict()
    assert row.data.sources.images.name == main.data.sources.exfractaldb.name


def test_mixed_pre_training_shows_three_formula_images_to_one_real_one():
    sources = load_config("vitb_exfractal_imagenet").data.sources
    assert (sources.exfractaldb.share, sources.imagenet.share) == (0.75, 0.25)
    data = load_config("vitb_exfractal_imagenet:phases").data
    assert data.phase_starts == (0, 115_000)
    assert data.sources.exfractaldb.share == (1.0, 0.75)
    assert data.sources.imagenet.share == (0.0, 0.25)


def test_fine_tuning_keeps_to_the_sets_of_the_papers():
    def entries(name, **changes):
        config = load_config(f"finetune:{name}", **changes)
        return config.data.sources[name], config.evals.test

    train, test = entries("flowers")  # 2,040 and 6,149 images
    assert (train.split, test.source.split) == ("train+validation", "test")
    train, test = entries("cifar100")
    assert (train.size, test.source.size, test.crop_fraction) == (32, 32, 0.875)
    key = "data.sources.imagenet100.classes"
    train, test = entries("imagenet100", **{key: "mine.txt", "data.data_dir": "/data"})
    assert train.classes == test.source.classes == "mine.txt"
    assert train.data_dir == test.source.data_dir == "/data"
    train, test = entries("voc2012")
    assert (train.label, test.kind) == ("labels_no_difficult", "mean_average_precision")


# steps, warm-up, images of a caption, batch, downsampling, weights of contrast and align, store
CAPTIONED = """
stablerep_vitb_cc12m:1x               109012  3634 6 8256 0   1 0 cc12m-w2
stablerep_vitb_cc12m:2x               225291  7267 6 8256 0   1 0 cc12m-w2
stablerep_vitb_cc12m:3x-downsample    334302 10901 6 8256 .05 1 0 cc12m-w2
stablerep_vitb_cc12m:m3               109012  3634 3 8256 0   1 0 cc12m-w2
stablerep_vitb_cc12m:w6               109012  3634 6 8256 0   1 0 cc12m-w6
stablerep_vitb_redcaps:1x-downsample  109593  3794 6 8256 .05 1 0 redcaps-w2
stablerep_vitb_redcaps:3x             337209 11381 6 8256 0   1 0 redcaps-w2
stablerepplus_vitb:redcaps            109593  3794 6 8256 0   1 1 redcaps-w2
stablerepplus_vitb:laion-50m          109000  3634 2 8192 0   1 1 laion-50m-w2
clip_vitb:laion-10m                   109000  3634 1 8192 0   0 1 laion-10m
clip_vitb:cc12m-made                  109000  3634 1 8192 0   0 1 cc12m-w2
"""


@pytest.mark.parametrize("row", CAPTIONED.strip().splitlines(), ids=lambda row: row.split()[0])
def test_learning_from_captions_is_as_published(row):
    typed, *numbers, store = row.split()
    config = load_config(typed)
    objective = config.objective
    found = [config.steps, config.schedule.warmup_steps, config.data.group_size, config.batch_size]
    found += [config.augment.downsample, objective.contrast.weight, objective.align.weight]
    assert found == [float(x) for x in numbers]
    assert config.data.sources.images.path == f"stores/{store}"
    rule = config.optimizer
    assert (rule.learning_rate, rule.weight_decay, rule.b2) == (3.2e-3, 0.1, 0.98)
    assert objective.contrast.temperature == 0.1 and objective.classify.weight == 0
    text = config.model.text
    assert (text.width, text.depth, text.num_heads, text.context) == (512, 12, 8, 77)
    doc = importlib.import_module(f"jaxfdsl.configs.{typed.partition(':')[0]}").__doc__
    assert "Made images inherit their generator's data, biases and licence" in doc


def test_every_caption_comes_as_often_as_published():
    """15, 31 and 46 times of CC12M's, 13, 27 and 40 of RedCaps', half a time or more to warm up."""
    for name, captions, times in (
        ("cc12m", 10_000_000, {"1x": (15, 0.5), "2x": (31, 1.0), "3x": (46, 1.5)}),
        ("redcaps", 11_600_000, {"1x": (13, 0.45), "2x": (27, 0.9), "3x": (40, 1.35)}),
    ):
        for schedule, published in times.items():
            config = load_config(f"stablerep_vitb_{name}:{schedule}")
            each = config.batch_size / config.data.group_size / captions
            found = config.steps * each, config.schedule.warmup_steps * each
            assert found == pytest.approx(published, rel=1e-3)


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("vitti_1k:visualatm", "vitti_1k.py:visualatom"),
        ("finetune:cifar-100", "finetune.py:cifar100"),
        ("finetune_imagenet:385", "finetune_imagenet.py:384"),
        ("vitb_one_instance:ofdb3d", "vitb_one_instance.py:ofdb3d-1k"),
        ("vitb_exfractal_imagenet:phase", "vitb_exfractal_imagenet.py:phases"),
    ],
)
def test_an_unknown_argument_is_answered_with_the_nearest(typed, nearest):
    with pytest.raises(c.ConfigError) as caught:
        load_config(typed)
    assert str(caught.value).endswith(f"configs/{nearest}.")
    assert "the recipe takes" in str(caught.value)


def test_the_table_of_costs_is_up_to_date():
    text = (ROOT / "configs" / "README.md").read_text("utf-8")
    assert costs.updated(text) == text, (
        "type python benchmarks/recipe_costs.py --write configs/README.md"
    )


def test_a_pass_forward_costs_what_is_usually_quoted():
    """1.26, 4.6, 17.6 and 61.6 billion multiply-adds, each of which is two operations."""
    for variant, giga in [("vit_ti", 2.51), ("vit_s", 9.20), ("vit_b", 35.1), ("vit_l", 123.1)]:
        config = load_config("finetune_imagenet:224", **{"model.variant": variant})
        assert costs.flop(config) / 1e9 == pytest.approx(giga, rel=2e-3)
