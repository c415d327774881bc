"""A dry run against a calculation by hand, and against the programs that XLA compiles."""

import functools

import jax
import pytest

from jaxfdsl import cli, dryrun, load_config, optim, sharding, step
from jaxfdsl import config as c
from jaxfdsl import state as state_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.costs import collectives, devices, memory, page, plan
from jaxfdsl.costs.devices import Fleet
from jaxfdsl.models import vit
from jaxfdsl.objectives.classify import Classify
from tests.programs import AS_USERS

EIGHT = Fleet(devices.processor(1e11), 8)
ONE = Fleet(devices.processor(1e11), 1)


@functools.cache
def of_the_main_recipe() -> dryrun.Report:
    return dryrun.report(load_config("vitb_exfractal"), "tpu-v5e-256")


def tiny(batch_size: int = 16, mesh: tuple[int, int, int] = (1, 1, 1), **model) -> c.ConfigDict:
    """A classifier of 64 classes of fractals."""
    config = c.default_config()
    config.update(batch_size=batch_size, steps=10, dtype="float32")
    config.mesh.update(dict(zip(sharding.AXES, mesh, strict=True)))
    config.model.update(image_size=16, patch_size=4, width=32, depth=2, num_heads=8)
    config.model.update(model)
    options = {"pattern": "point", "num_points": 300}
    config.data.sources.a = c.formula_source(
        "fractaldb-1k", num_classes=64, size=config.model.image_size, options=options
    )
    return config


def compiled(config: c.ConfigDict, count: int, options: dict) -> jax.stages.Compiled:
    """The training step of such a config on batches that are given, not drawn."""
    mesh = sharding.make_mesh(config.mesh, jax.devices()[:count])
    model = vit.build(config.model, 64, "float32")
    rate = optim.schedule(config.schedule, 1e-3, warmup_steps=0, total_steps=10)
    optimizer = optim.build(config.optimizer, rate)
    state = jax.eval_shape(
        lambda key: state_lib.create(model.init(key), optimizer, ema=False), jax.random.key(0)
    )
    train_step = step.make_train_step(
        model=model,
        objectives={"classify": (1.0, Classify(0.1))},
        optimizer=optimizer,
        rate=rate,
        ema=None,
        draw_batch=lambda key, step, rows, tables: rows,
        mesh=mesh,
        laid=state_lib.shardings(state, mesh),
        accumulate=config.accumulate,
    )
    side, rows = config.model.image_size, config.batch_size
    shapes = {"image": (rows, side, side, 3), "label": (rows,), "valid": (rows,)}
    cut = sharding.batched(mesh)
    batch = {
        name: jax.ShapeDtypeStruct(shape, "int32" if name == "label" else "float32", sharding=cut)
        for name, shape in shapes.items()
    }
    laid = state_lib.shardings(state, mesh)
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, laid
    )
    lowered = train_step.lower(state, jax.random.key(0), batch, None)
    return lowered.compile(compiler_options=options)


# ViT-B/16 at 224 pixels with 21,000 classes, written out.
TOKENS, WIDTH, HIDDEN, DEPTH, CLASSES = 197, 768, 3072, 12, 21_000
CUT_BY_FSDP = (  # matrices
    16 * 16 * 3 * WIDTH
    + DEPTH * (WIDTH * 3 * WIDTH + WIDTH * WIDTH + 2 * WIDTH * HIDDEN)
    + WIDTH * CLASSES
)
WHOLE = (  # biases, norms, class token and positions
    WIDTH
    + WIDTH
    + TOKENS * WIDTH
    + DEPTH * (3 * WIDTH + WIDTH + HIDDEN + WIDTH + 4 * WIDTH)
    + 2 * WIDTH
    + CLASSES
)
FORWARD = (  # a multiplication and an addition are two
    2 * 196 * 768 * WIDTH
    + DEPTH * 2 * TOKENS * WIDTH * (3 * WIDTH + WIDTH + 2 * HIDDEN)
    + DEPTH * 2 * 2 * TOKENS * TOKENS * WIDTH
    + 2 * WIDTH * CLASSES
)


def test_the_main_recipe_on_256_chips_agrees_with_a_calculation_by_hand():
    report = of_the_main_recipe()
    assert report.plan.shape == {"data": 256, "fsdp": 1, "tensor": 1}
    assert report.parameters == CUT_BY_FSDP + WHOLE == 101_947_656
    assert report.flops == 3 * FORWARD
    assert report.flops_lowered == pytest.approx(3 * FORWARD, rel=0.01)
    # AdamW: two moments; the step, and the steps that Adam and the learning rate count.
    state = [report.arguments[name] for name in ("parameters", "optimizer state")]
    assert state == [4 * report.parameters, 8 * report.parameters + 12]
    assert report.checkpoint == sum(state)
    assert report.collectives == {
        "all-reduce": collectives.Traffic(8 + 12 * DEPTH, 4.0 * report.parameters)
    }
    steps = round(90 * 21_000_000 / 8192)
    seconds = 3 * FORWARD * 8192 / (256 * 197e12 * 0.4)
    assert (report.plan.total_steps, report.model_seconds) == (steps, pytest.approx(seconds))
    assert report.hours == pytest.approx(steps * (seconds + report.drawing_seconds) / 3600)
    assert report.mfu.origin == "assumed"


def test_the_state_of_a_device_falls_as_fsdp_cuts_its_matrices():
    config = load_config("vitb_exfractal", **{"mesh.fsdp": 8})
    made = plan.make(
        config, Fleet(devices.KINDS["tpu-v5e"], 256), of_the_main_recipe().plan.batches
    )
    own = CUT_BY_FSDP // 8 + WHOLE
    assert memory.state(made) == {"parameters": 4 * own, "optimizer state": 8 * own + 12}
    told = collectives.of_step(made)
    once = 4.0 * (CUT_BY_FSDP - 16 * 16 * 3 * WIDTH - WIDTH * CLASSES)
    ends = 4.0 * CUT_BY_FSDP - once
    assert told["all-gather"] == collectives.Traffic(4 * DEPTH + 2, once + ends)
    assert told["reduce-scatter"].size == 4.0 * CUT_BY_FSDP
    assert told["all-reduce"].size == 4.0 * (WHOLE + CUT_BY_FSDP / 8)


def test_moments_and_averages_are_those_of_the_optimizer():
    batches = of_the_main_recipe().plan.batches
    for name, changes, moments in [("sgd", {}, 1), ("adamw", {"optimizer.ema": 0.9}, 2)]:
        config = load_config("vitb_exfractal", **{"optimizer.name": name, **changes})
        found = memory.state(plan.make(config, Fleet(devices.KINDS["h200"], 8), batches))
        assert found["optimizer state"] // found["parameters"] == moments
        assert ("average" in found) == bool(changes)


@pytest.mark.parametrize(
    "model", [{}, {"scan_blocks": True, "remat": "full"}], ids=["unrolled", "scanned, remat"]
)
def test_bytes_a_device_are_those_of_the_compiled_program(model):
    sizes = {"image_size": 64, "patch_size": 8, "width": 96, "num_heads": 3, "depth": 2}
    config = tiny(32, **sizes, **model)
    found = compiled(config, 1, AS_USERS).memory_analysis()
    needed = found.argument_size_in_bytes + found.temp_size_in_bytes
    needed += found.output_size_in_bytes - found.alias_size_in_bytes
    assert memory.total(plan.make(config, ONE)) == pytest.approx(needed, rel=0.15)


def test_collectives_of_fsdp_are_those_of_the_compiled_program():
    config = tiny(16, (4, 2, 1), scan_blocks=True)
    config.accumulate = 2
    told = collectives.of_step(plan.make(config, EIGHT))
    found = collectives.of_program(compiled(config, 8, {}).as_text())
    assert set(told) == {"all-gather", "all-reduce", "reduce-scatter"}
    assert collectives.as_on_a_processor(told) == found


def test_collectives_of_tensor_parallelism_are_nearly_those_of_the_compiled_program():
    config = tiny(16, (2, 2, 2))
    told = collectives.as_on_a_processor(collectives.of_step(plan.make(config, EIGHT)))
    found = collectives.of_program(compiled(config, 8, {}).as_text())
    for kind in told:
        assert told[kind].size == pytest.approx(found[kind].size, rel=0.1)


def test_what_does_not_fit_is_told_what_to_type():
    batches = of_the_main_recipe().plan.batches
    config = load_config("vitb_exfractal", batch_size=1024)
    made = plan.make(config, Fleet(devices.KINDS["a100"], 2), batches)
    report = dryrun.of_plan(made)
    told = "\n".join(page.lines(report))
    assert not report.fits and "It does not fit: 80 GB a device" in told
    typed = [remedy.split() for remedy in report.remedies]
    assert ["--config.accumulate=2"] in typed
    for changes in typed:
        values = dict(change.removeprefix("--config.").split("=") for change in changes)
        read = {k: int(v) if v.isdigit() else v == "True" or v for k, v in values.items()}
        better = load_config("vitb_exfractal", batch_size=1024, **read)
        assert memory.total(plan.make(better, made.fleet, batches)) <= made.fleet.room


def test_a_device_computes_in_what_it_has():
    batches = of_the_main_recipe().plan.batches
    config = load_config("vitb_exfractal", batch_size=64)
    kinds = {"t4": ("float32", "xla"), "a100": ("bfloat16", "cudnn"), "tpu-v4": ("bfloat16", "xla")}
    for name, expected in kinds.items():
        design = plan.make(config, Fleet(devices.KINDS[name], 4), batches).design
        assert (str(design.dtype), design.attention) == expected


def test_real_data_need_not_be_there(tmp_path):
    config = load_config("finetune_imagenet:224", **{"data.data_dir": str(tmp_path)})
    made = plan.make(config, Fleet(devices.KINDS["h100"], 8))
    assert (made.heads, made.total_steps) == ({"head": 1000}, 375_342)


def test_the_command_takes_overrides_and_refuses_as_training_does(capsys):
    def refusal(*typed: str) -> str:
        with pytest.raises(SystemExit) as caught:
            cli.run(["dryrun", "--config=configs/vitb_exfractal.py", *typed])
        assert caught.value.code == 2
        return capsys.readouterr().err

    assert "Did you mean --config.batch_size?" in refusal("--config.batch_sze=3")
    assert "Did you mean --devices=tpu-v5e-256?" in refusal("--devices=tpu-v5ee-256")
    assert "type a share of the peak, such as --mfu=0.4" in refusal("--devices=h100-8", "--mfu=40")
    assert "batch_size=8192 does not divide over 24 devices" in refusal("--devices=h100-24")
    cli.run(["dryrun", "--config=configs/demo.py", "--devices=h200-8", "--config.model.depth=2"])
    told = capsys.readouterr().out
    assert "Devices: 8 x h200. Mesh: data 8" in told and "blocks/mlp/fc1/kernel x 2" in told


def test_the_devices_of_a_processor_share_what_it_was_seen_to_reach(monkeypatch):
    monkeypatch.setattr(dryrun, "matmul_rate", lambda device: 1e11)
    report = dryrun.report(tiny(16, (2, 1, 1)), "cpu-2", mfu=0.5)
    assert report.drawing.origin == "measured here" and report.drawing.seconds > 0
    assert report.model_seconds == pytest.approx(16 * report.flops / (0.5 * 1e11))
    assert report.step_seconds == report.model_seconds + 8 * report.drawing.seconds


def test_unknown_data_that_is_not_there_is_refused(tmp_path):
    config = tiny(16)
    config.data.sources.a = c.folder_source(str(tmp_path / "pictures"))
    with pytest.raises(ConfigError, match=r"data\.sources\.a"):
        plan.make(config, ONE)
