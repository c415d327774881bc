"""`jaxfdsl generate`: a caption file, a model, a store."""

from typing import Any

from tqdm import tqdm

from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.text_to_image import captions as captions_lib
from jaxfdsl.text_to_image.pipeline import Diffusion, Settings, licence
from jaxfdsl.text_to_image.produce import FORMATS, Order, part_of, produce


def run(options: Any, pipeline: Any = None) -> None:
    """Makes what is missing of the images that the options ask for, and says where they are."""
    seeds = tuple(range(options.first_seed, options.first_seed + options.images_per_caption))
    for name in ("images_per_caption", "batch", "shard_images"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name}={getattr(options, name)}: type 1 or more.")
    if options.first_seed < 0:
        raise ConfigError(f"--first_seed={options.first_seed}: type 0 or more.")
    if options.format not in FORMATS:
        raise ConfigError(f"--format={options.format}: type one of {', '.join(FORMATS)}.")
    found = captions_lib.read(options.captions, options.column)
    part, parts = part_of(options.part)
    settings = Settings(
        model=options.model,
        revision=options.revision,
        steps=options.steps,
        guidance=options.guidance,
        scheduler=options.scheduler,
        size=options.size,
        dtype=options.dtype,
        device=options.device,
        safety_checker=not options.no_safety_checker,
    )
    settings.check()
    terms = licence(settings, options.licence)
    draw = Diffusion(settings, pipeline)
    card = {
        **draw.card,
        "stored_size": options.stored_size or options.size,
        "stored_format": options.format,
        "caption_source": f"{found.name}, {len(found.texts)} captions, sha256 {found.sha256}",
        "seeds": list(seeds),
        "part": options.part,
        "licence": terms,
        "created_by": "jaxfdsl generate",
    }
    out = options.out if parts == 1 else f"{options.out.rstrip('/')}.part-{part}-of-{parts}"
    order = Order(found.texts, seeds, part, parts)
    left_out = f"{found.empty} empty lines, {found.repeated} repeated"
    print(f"{len(found.texts)} captions ({left_out}), {len(order)} images: {out}", flush=True)
    with store.Writer(out, card=card, shard_images=options.shard_images) as writer:
        start = _reached(order, out) if writer.done else 0
        bar = tqdm(total=len(order), initial=start, unit="img", disable=None)
        made = produce(
            draw,
            order,
            writer,
            batch=options.batch,
            size=options.stored_size,
            format=options.format,
            source=settings.model,
            start=start,
        )
        with bar:
            for done in made:
                bar.update(done - bar.n)
    print(f"{writer.done} images of {settings.model}, guidance {settings.guidance:g}: {out}")
    if writer.done < len(order):
        print(f"{len(order) - writer.done} were left out: the model's own checker flags them.")


def _reached(order: Order, out: str) -> int:
    """The number of the first image that a store does not hold: the one after its last row, as
    those that the model's checker flags have none."""
    held = store.open(out)
    return order.after(int(held.column("group")[-1]), int(held.column("seed")[-1]))
