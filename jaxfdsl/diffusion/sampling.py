"""A frozen sampler of a run's checkpoint: conditions and seeds to images, jittable."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Float, UInt8, UInt32
from ml_collections import ConfigDict

from jaxfdsl import checkpoint
from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.data import condition as conditions
from jaxfdsl.data.condition import Condition
from jaxfdsl.diffusion import latents
from jaxfdsl.diffusion.settings import Settings
from jaxfdsl.models import sampler
from jaxfdsl.models.denoiser import Denoiser

# Of the parameters and latents, to images of about -1 to 1.
Decode = Callable[[Any, Float[Array, "B s s C"]], Float[Array, "B S S 3"]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sampler:
    """What `draw` needs beside its arguments. `params` are NumPy arrays, to be handed to `draw`:
    as constants of a program they would be compiled into it.

    `digest` is the sha256 of the weights, `identity` all that decides an image beside its condition
    and seed, `name` and `step` say whose they are.
    """

    params: Any = dataclasses.field(repr=False)
    denoiser: Denoiser
    weaker: Denoiser | None
    decode: Decode | None
    condition: Condition
    settings: Settings
    image_size: int  # pixels
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    identity: dict[str, Any]
    name: str
    step: int
    config: ConfigDict = dataclasses.field(repr=False)

    def draw(
        self, params: Any, cond: Float[Array, "n K"], seeds: UInt32[Array, "n 2"]
    ) -> UInt8[Array, "n S S 3"]:
        """Images, `seeds` being those of their noise. Each hangs on its own condition and seed
        alone, within the rounding that the size of the batch brings."""
        x = self.flow(params, cond, seeds)
        if self.decode is not None:
            with jax.named_scope("decode"):
                x = self.decode(params["autoencoder"], x)
        pixels = 255 * (x * jnp.asarray(self.std) + jnp.asarray(self.mean))
        return jnp.round(jnp.clip(pixels, 0, 255)).astype(jnp.uint8)

    def flow(
        self, params: Any, cond: Float[Array, "n K"], seeds: UInt32[Array, "n 2"]
    ) -> Float[Array, "n s s C"]:
        """What the denoiser works in, before it becomes pixels."""
        design, how = self.denoiser.design, self.settings
        shape = (design.image_size, design.image_size, design.channels)
        every = jnp.ones(len(cond), bool)

        def of(model: Denoiser, name: str, known: jax.Array) -> sampler.Velocity:
            return lambda x, times: model.velocity(params[name], x, times, cond, known)

        other = of(self.denoiser, "model", ~every)
        if self.weaker is not None:
            other = of(self.weaker, "weaker", every)
        velocity = sampler.guided(of(self.denoiser, "model", every), other, how.guidance)
        with jax.named_scope("sample"):
            return sampler.integrate(velocity, sampler.noise(seeds, shape), how.steps, how.method)


def load(
    workdir: str,
    *,
    guidance: float = 1.0,
    steps: int = 25,
    method: str = "heun",
    weaker: str = "",
    step: int = 0,
    field: Callable[[str], str] = str,
) -> Sampler:
    """The sampler of the run at `workdir`: its newest checkpoint or that of `step`, and of that the
    average where one is kept.

    guidance: w of w v(x | cond) + (1 - w) v(x), or with `weaker` of v of that model instead of v(x)
    (autoguidance); at 1 the conditional model alone is computed. `weaker` is another step of the
    run in digits, or the workdir of another run with the same condition and image size. `field`
    says how an argument is typed. Raises ConfigError, one sentence, for what cannot be used.
    """
    settings = Settings(guidance, steps, method, weaker)
    settings.check(field)
    found = _opened(workdir, step, field("path"))
    if guidance != 1 and not weaker and not found.config.objective.denoise.hidden:
        raise ConfigError(
            f"{field('guidance')}={guidance:g} moves away from the model without a condition, which"
            f" {workdir} has not learned (objective.denoise.hidden=0): type 1, or {field('weaker')}"
            "=STEP."
        )
    second = _weaker(weaker, workdir, found, field("weaker")) if weaker else None
    identity = {"weights": found.digest, **dataclasses.asdict(settings)}
    identity["weaker"] = second.digest if second else ""
    params = {"model": found.params, **({"weaker": second.params} if second else {})}
    config = found.config
    mean, std = tuple(config.augment.mean), tuple(config.augment.std)
    autoencoder = latents.opened(config, found.denoiser.design.dtype)
    if autoencoder is not None:
        if autoencoder.digest != found.autoencoder:
            raise ConfigError(
                f"model.autoencoder={config.model.autoencoder!r} holds other weights than those "
                f"that {workdir} was trained with: put the file back that was there."
            )
        params["autoencoder"], identity["autoencoder"] = autoencoder.params, autoencoder.digest
        mean = std = (0.5, 0.5, 0.5)
    return Sampler(
        params=params,
        denoiser=found.denoiser,
        weaker=second.denoiser if second else None,
        decode=autoencoder.images if autoencoder else None,
        condition=found.condition,
        settings=settings,
        image_size=config.model.image_size,
        mean=mean,
        std=std,
        digest=found.digest,
        identity=identity,
        name=found.name,
        step=found.step,
        config=config,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Opened:
    config: ConfigDict
    condition: Condition
    params: Any
    denoiser: Denoiser
    digest: str
    name: str
    step: int
    autoencoder: str  # digest of the one that it works in the latents of


def _opened(workdir: str, step: int, field: str) -> _Opened:
    from jaxfdsl import experiment  # which loads the data's modules, these included

    path = epath.Path(workdir).expanduser()
    place = path / "checkpoints" / str(step) if step else path
    missing = "the workdir of a denoiser's run that saved one"
    asked = f"{field}={workdir}: "
    with checkpoint.reading(place, asked, missing=missing, damaged="another step or run"):
        meta = checkpoint.load_meta(place)
        config = config_lib.from_json(json.dumps(meta["config"]))
        if not config.objective.denoise.weight or "condition" not in meta:
            raise ConfigError(
                f"{field}={workdir} is a run without objective.denoise, which makes no images: "
                "type the workdir of a denoiser's run."
            )
        params, origin = checkpoint.load_params(place)
    # As they were for training: kernels of another device, memory for gradients.
    config.unlock()
    config.model.attention, config.model.remat = "auto", "none"
    condition = conditions.from_json(meta["condition"])
    made = experiment.denoiser_of(config, condition.size)
    number = int(epath.Path(origin).parent.name)
    name, latent = path.resolve().name, str(meta.get("data", {}).get(latents.TABLE, ""))
    return _Opened(config.lock(), condition, params, made, digest_of(params), name, number, latent)


def _weaker(weaker: str, workdir: str, found: _Opened, field: str) -> _Opened:
    """The other model, which has to see the same vectors and images."""
    if weaker.isdecimal():
        second = _opened(workdir, int(weaker), field)
    else:
        second = _opened(weaker, 0, field)
    if not conditions.same(found.condition, second.condition):
        raise ConfigError(
            f"{field}={weaker} was trained with data.condition={second.condition.kind!r} of "
            f"{second.condition.size} numbers and {workdir} with {found.condition.kind!r} of "
            f"{found.condition.size}, or with another encoder's: type a run with the same "
            "condition."
        )
    sides = [
        (d.image_size, d.channels, bool(one.config.model.autoencoder))
        for one in (found, second)
        for d in [one.denoiser.design]
    ]
    if sides[0] != sides[1]:
        raise ConfigError(
            f"{field}={weaker} makes images of {second.config.model.image_size} pixels"
            f"{' by latents' * sides[1][2]} and {workdir} of {found.config.model.image_size}"
            f"{' by latents' * sides[0][2]}: type a run with the same images."
        )
    units = [_units(one) for one in (found, second)]
    if units[0] != units[1]:
        name = next(name for name in units[0] if units[0][name] != units[1][name])
        raise ConfigError(
            f"{field}={weaker} was trained with another {name} than {workdir}, so that the same "
            "numbers mean other things to it: type a run of the same data and normalisation."
        )
    return second


def _units(one: _Opened) -> dict[str, Any]:
    """What the numbers are that a denoiser reads and works in."""
    given = (one.condition.mean, one.condition.deviation)
    pixels = [tuple(one.config.augment[name]) for name in ("mean", "std")]
    return {
        "standardisation of data.condition": [None if x is None else x.tolist() for x in given],
        "augment.mean or augment.std": pixels,
        "model.autoencoder": one.autoencoder,
    }


def digest_of(params: Any) -> str:
    """The sha256 of a pytree's paths and numbers, in hex."""
    total = hashlib.sha256()
    for path, value in jax.tree_util.tree_leaves_with_path(params):
        total.update(jax.tree_util.keystr(path).encode())
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()
