"""A diffusers pipeline as a function of captions and seeds."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from etils import epath
from PIL import Image

from jaxfdsl.config import ConfigError

TRIES = 4  # seeds that are tried before an image that the model's own checker flags is left out
# Of the models that are much used for training images; others' stand in their model cards.
LICENCES = {
    "stable-diffusion-v1-5": "creativeml-openrail-m",
    "stable-diffusion-v1-4": "creativeml-openrail-m",
    "stable-diffusion-xl-base-1.0": "openrail++",
    "FLUX.1-schnell": "apache-2.0",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides an image beside its caption and seed."""

    model: str  # a hub name or a local folder
    revision: str = ""
    steps: int = 50
    guidance: float = 2.0  # w of eps = w eps(caption) + (1 - w) eps(nothing)
    scheduler: str = "ddim"  # or "own": the pipeline's
    size: int = 512
    dtype: str = "auto"  # float16 on a GPU, else float32
    device: str = "auto"
    safety_checker: bool = True  # False: the model's own checker of contents is not run

    def check(self) -> None:
        """Raises ConfigError for what no pipeline can do."""
        if self.steps < 1:
            raise ConfigError(f"--steps={self.steps}: type 1 or more.")
        if not self.guidance >= 1:  # diffusers takes what is below for 1
            raise ConfigError(
                f"--guidance={self.guidance}: type 1 (the caption alone) or more; StableRep's is 2."
            )
        if self.size < 8 or self.size % 8:
            raise ConfigError(f"--size={self.size}: type a multiple of 8, as 512.")
        if self.scheduler not in ("ddim", "own"):
            raise ConfigError(f"--scheduler={self.scheduler}: type ddim or own.")
        if self.dtype not in ("auto", "float16", "bfloat16", "float32"):
            raise ConfigError(f"--dtype={self.dtype}: type auto, float16, bfloat16 or float32.")


class Diffusion:
    """Draws with a pipeline that is loaded, or is handed in."""

    def __init__(self, settings: Settings, pipeline: Any = None):
        """Loads `settings.model`; raises ConfigError where it or a package is missing."""
        settings.check()
        torch, diffusers = _packages()
        self._torch, self.settings = torch, settings
        gpu = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = gpu if settings.device == "auto" else settings.device
        if pipeline is None:
            pipeline = _load(settings, diffusers, self._dtype)
        if settings.scheduler == "ddim":
            pipeline.scheduler = _ddim(pipeline, diffusers)
        if not settings.safety_checker and hasattr(pipeline, "safety_checker"):
            pipeline.safety_checker = None
        self._pipeline = pipeline.to(self._device)
        self._pipeline.set_progress_bar_config(disable=True)

    @property
    def _dtype(self) -> Any:
        usual = "float16" if self._device.startswith("cuda") else "float32"
        name = usual if self.settings.dtype == "auto" else self.settings.dtype
        return getattr(self._torch, name)

    @property
    def card(self) -> dict[str, Any]:
        """What a store's data card says of its images, flat."""
        settings, scheduler = self.settings, type(self._pipeline.scheduler).__name__
        return {
            "generator": settings.model,
            "revision": settings.revision,
            "pipeline": type(self._pipeline).__name__,
            "guidance": settings.guidance,
            "steps": settings.steps,
            "sampler": scheduler + (", eta 0" if scheduler == "DDIMScheduler" else ""),
            "drawn_size": settings.size,
            "dtype": str(self._dtype).removeprefix("torch."),
            "safety_checker": getattr(self._pipeline, "safety_checker", None) is not None,
        }

    def __call__(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Image.Image | None]:
        """A picture of each caption; a picture that the model's checker flags is made again with
        another seed, the same one whenever it is made, and is None where it flags all of them."""
        first, flagged = self._draw(captions, seeds, 0)
        pictures: list[Image.Image | None] = [*first]
        for again in range(1, TRIES):
            places = [i for i, bad in enumerate(flagged) if bad]
            if not places:
                return pictures
            texts, own = [captions[i] for i in places], [seeds[i] for i in places]
            new, still = self._draw(texts, own, again)
            for place, picture, is_bad in zip(places, new, still, strict=True):
                pictures[place], flagged[place] = picture, is_bad
        return [None if bad else one for one, bad in zip(pictures, flagged, strict=True)]

    def _draw(
        self, captions: Sequence[str], seeds: Sequence[int], again: int
    ) -> tuple[list[Image.Image], list[bool]]:
        # A CPU generator gives the same noise on every device, and each image its own.
        generators = [
            self._torch.Generator("cpu").manual_seed(noise_seed(text, seed, again))
            for text, seed in zip(captions, seeds, strict=True)
        ]
        size = self.settings.size
        with self._torch.inference_mode():
            found = self._pipeline(
                prompt=list(captions),
                generator=generators,
                num_inference_steps=self.settings.steps,
                guidance_scale=self.settings.guidance,
                height=size,
                width=size,
                output_type="pil",
            )
        flags = getattr(found, "nsfw_content_detected", None) or [False] * len(captions)
        return list(found.images), list(flags)


def noise_seed(caption: str, seed: int, again: int = 0) -> int:
    """The noise of a caption's image: captions share none, whatever their order in a file."""
    digest = hashlib.sha256(f"{seed}\0{again}\0{caption}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # torch's seeds are signed


def licence(settings: Settings, given: str) -> str:
    """The licence to record: the one given, the local model card's, or that of a known model.

    Raises ConfigError where it is none of these: whoever trains on the images has to know it.
    """
    if given:
        return given
    readme = epath.Path(settings.model) / "README.md"
    if readme.is_file():
        for line in readme.read_bytes().decode("utf-8", "replace").splitlines()[:60]:
            if line.startswith("license:"):
                return line.removeprefix("license:").strip().strip("\"'")
    known = LICENCES.get(settings.model.rstrip("/").rpartition("/")[2])
    if known is None:
        raise ConfigError(
            f"--model={settings.model} has no licence that is known here: type --licence=NAME, as "
            "its model card has it; the store records it."
        )
    return known


def _packages() -> tuple[Any, Any]:
    try:
        import diffusers
        import torch
    except ImportError as error:
        raise ConfigError(
            f'{error.name} is missing, which makes the images: type pip install "jaxfdsl[t2i]".'
        ) from None
    return torch, diffusers


def _load(settings: Settings, diffusers: Any, dtype: Any) -> Any:
    how = {"revision": settings.revision} if settings.revision else {}
    try:
        return diffusers.DiffusionPipeline.from_pretrained(settings.model, torch_dtype=dtype, **how)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"--model={settings.model} cannot be loaded ({reason}): type a name of the Hugging "
            "Face hub, or a folder that diffusers wrote."
        ) from error


def _ddim(pipeline: Any, diffusers: Any) -> Any:
    """DDIM with eta 0, as StableRep sampled, from the model's own noise schedule."""
    config = pipeline.scheduler.config
    if "beta_start" not in config:
        raise ConfigError(
            f"--scheduler=ddim: {type(pipeline).__name__} has no noise schedule for it "
            f"({type(pipeline.scheduler).__name__}): type --scheduler=own."
        )
    return diffusers.DDIMScheduler.from_config(config)
