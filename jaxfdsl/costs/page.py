"""A dry run's report as text."""

from collections.abc import Iterator, Sequence

from etils import epath

from jaxfdsl.costs import autoencoding, drawing, flops, images
from jaxfdsl.dryrun import Report
from jaxfdsl.models import autoencoder, denoiser
from jaxfdsl.report.status import duration

SAMPLE_STEPS = 25  # as `jaxfdsl materialise` has it


def lines(report: Report) -> Iterator[str]:
    """The page, a line at a time."""
    yield from _run(report)
    yield from _parameters(report)
    yield from _memory(report)
    yield from _work(report)
    yield from _speed(report)


def _run(report: Report) -> Iterator[str]:
    plan, design = report.plan, report.plan.design
    config, size = plan.config, design.size
    axes = ", ".join(f"{axis} {count}" for axis, count in plan.shape.items())
    yield f"Devices: {plan.fleet.name}. Mesh: {axes}."
    seen = f"{design.image_size} pixels"
    if plan.autoencoder is not None:
        seen = f"latents of {design.image_size} x {design.image_size} x {plan.autoencoder.channels}"
    yield (
        f"Model: width {size.width}, depth {size.depth}, {size.num_heads} heads, "
        f"{seen} in patches of {design.patch_size}, {design.tokens} tokens; "
        f"{design.dtype}, attention {design.attention}, remat {design.remat}, "
        f"blocks {'scanned' if design.scan_blocks else 'unrolled'}."
    )
    if plan.batches.condition is not None:
        told = plan.batches.condition
        yield f"Denoiser: told {told.size:,} numbers an image ({told.kind})."
    sources = ", ".join(
        f"{source.name} ({source.num_classes:,} classes, "
        + (f"{source.num_examples:,} images)" if source.num_examples else "endless)")
        for source in plan.batches.sources.values()
    )
    yield f"Data: {sources}."
    micro = f", {config.accumulate} parts one after another" if config.accumulate > 1 else ""
    yield f"Batch: {config.batch_size:,}, {plan.rows:,} a device{micro}."


def _parameters(report: Report) -> Iterator[str]:
    yield f"\nParameters: {report.parameters:,} (float32)"
    rows = [("", "shape", "sharding", "total", "a device")]
    for leaf in report.leaves:
        times = f" x {leaf.count}" if leaf.count > 1 else ""
        spec = ", ".join("-" if axis is None else str(axis) for axis in leaf.spec) or "whole"
        shape = "x".join(map(str, leaf.shape))
        rows.append((leaf.name + times, shape, spec, size(leaf.size), size(leaf.on_device)))
    yield from _table(rows)


def _memory(report: Report) -> Iterator[str]:
    fleet = report.plan.fleet
    yield "\nBytes a device, at the peak of a step"
    rows = [(name, size(count), "exact") for name, count in report.arguments.items()]
    rows += [(name, size(count), "estimated") for name, count in report.temporaries.items()]
    rows.append(("together", size(report.peak_bytes), "drawing is over before the model starts"))
    yield from _table(rows, right=(1,))
    has = f"{size(fleet.kind.memory)} a device"
    if fleet.room < fleet.kind.memory:
        has += f", of which a program gets {size(fleet.room)} (assumed)"
    if report.fits:
        yield f"It fits: {has}."
        return
    yield f"It does not fit: {has}."
    if report.remedies:
        yield "Type one of: " + "; ".join(report.remedies) + "."
    else:
        yield "Neither accumulation, nor remat, nor mesh.fsdp alone is enough: combine them."


def _work(report: Report) -> Iterator[str]:
    ratio = report.flops_lowered / report.flops - 1
    yield (
        f"\nFLOP an image, forward and backward: {report.flops:.4g} by hand (matrix products), "
        f"{report.flops_lowered:.4g} by XLA's count of the unrolled program "
        f"({ratio:+.1%}: norms, GELU, softmax)"
    )
    yield from _denoising(report)
    if report.drawing.seconds is None:
        yield f"Drawing and augmentation: {report.drawing.origin}; left out below"
    else:
        share = report.drawing_seconds / report.step_seconds
        yield (
            f"Drawing and augmentation: {report.drawing.seconds * 1e6:,.3g} us an image, "
            f"{share:.1%} of the step ({report.drawing.origin})"
        )
    yield "Collectives a step, on each device (from the sharding; drawing has none)"
    rows = [
        (kind, f"{found.arrays:,} arrays", size(found.size))
        for kind, found in report.collectives.items()
    ]
    yield from _table(rows, right=(1, 2)) if rows else ["  none: one device"]


def _denoising(report: Report) -> Iterator[str]:
    """What frozen networks cost, and a sample."""
    plan = report.plan
    for name, source in plan.batches.sources.items():
        if sample := drawing.sampling(source):
            yield f"FLOP of an image of data.sources.{name}, which a denoiser makes: {sample:.4g}"
    if not isinstance(plan.design, denoiser.Design):
        return
    decoding = ""
    if plan.autoencoder is not None:
        side = plan.config.model.image_size
        decoded = autoencoding.decoding(plan.autoencoder, side)
        path = plan.config.model.autoencoder
        there = epath.Path(path).expanduser().exists()
        whose = "" if there else f" (assumed: Stable Diffusion's, as {path} is not there)"
        said = (
            f"{report.flops_encoding:.4g} FLOP to encode an image in every step, "
            f"{report.encoding_seconds / report.step_seconds:.1%} of it (at the share below)"
        )
        yield (
            f"Autoencoder: {autoencoder.parameters(plan.autoencoder):,} parameters, frozen{whose}; "
            + ("no image is encoded in a step" if plan.latent_bytes else said)
        )
        yield from _columns(report)
        decoding = f", and {decoded:.4g} to decode it"
    made = flops.sampling(plan.design, SAMPLE_STEPS, guidance=2.0)
    yield (
        f"FLOP of a sample: {flops.denoising(plan.design):.4g} a velocity; {made:.4g} in "
        f"{SAMPLE_STEPS} steps of Heun with guidance{decoding}"
    )


def _columns(report: Report) -> Iterator[str]:
    """Latents that are made before the run."""
    plan, each = report.plan, report.plan.latent_bytes
    if not each:
        return
    config, made = plan.config, plan.autoencoder
    flip = config.augment.flip_lr
    assert made is not None
    encoding = (1 + flip) * autoencoding.encoding(made, config.model.image_size)
    for name, source in plan.batches.sources.items():
        rows = images.column_rows(source, config.data.sources[name])
        steps = encoding * rows / (report.flops * config.batch_size)
        there = "" if source.latents or not hasattr(source, "records") else ", not written yet"
        yield (
            f"Latents of data.sources.{name}: {size(each)} an image"
            f"{' with its mirror image' * flip}, {size(each * rows)} on disk for {rows:,}"
            f"{there}; jaxfdsl embed makes them once, "
            f"{encoding * rows:.4g} FLOP, as {steps:,.4g} steps of the model"
        )


def _speed(report: Report) -> Iterator[str]:
    plan = report.plan
    count, steps = plan.fleet.count, plan.total_steps
    how = "reached by matrix products here" if plan.fleet.kind.platform == "cpu" else "peak"
    yield (
        f"\nAt {report.mfu.value:.1%} ({report.mfu.origin}) of {report.peak / 1e12:,.4g} TFLOP/s "
        f"({how}) a device, collectives hidden behind the arithmetic (assumed):"
    )
    yield f"  {report.images_per_second:,.0f} images/s, {1000 * report.step_seconds:,.4g} ms a step"
    if rate := report.decoded_per_second:
        hosts = plan.fleet.processes
        if each := plan.latent_bytes:
            yield (
                f"  {rate:,.0f} latents/s are read from disk or its cache, {size(rate * each)}/s, "
                f"{size(rate * each / hosts)}/s on each host of {hosts}; nothing is decoded"
            )
        else:
            yield (
                f"  {rate:,.0f} of them come from the host, {rate / hosts:,.0f} from each of "
                f"{hosts} (jaxfdsl doctor says what one can do)"
            )
    yield (
        f"  {steps:,} steps, {steps * plan.config.batch_size:,} images: {_hours(report.hours)}, "
        f"{_hours(report.hours * count)} of one device (evaluations and start not counted)"
    )
    yield (
        f"  a checkpoint: {size(report.checkpoint)} on disk, "
        f"{plan.config.keep_checkpoints} are kept"
    )


def _hours(hours: float) -> str:
    return f"{hours:,.4g} hours" if hours >= 0.1 else duration(3600 * hours)


def size(count: int | float) -> str:
    """Bytes as one reads them, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _table(rows: Sequence[tuple[str, ...]], right: tuple[int, ...] = (3, 4)) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(cells)).rstrip()
