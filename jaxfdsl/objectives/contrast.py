"""Multi-positive contrast: each image finds those of its group among all images of the batch.

Tian et al., arXiv 2306.00984 (StableRep). For an anchor a and all other images b_j of the global
batch, L2-normalised, q_j = softmax(a . b_j / temperature) and p is uniform over a's positives; the
loss is the cross-entropy H(p, q), averaged over anchors. Its floor is the entropy of p, log(m - 1)
in groups of m. Groups of two are NT-Xent (SimCLR, Chen et al., arXiv 2002.05709), labels for groups
SupCon's L_out (Khosla et al., arXiv 2004.11362).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from jaxfdsl import sharding
from jaxfdsl.objectives.objective import Objective

# Logits reach 10 at a temperature of 0.1: products in bfloat16, a TPU's default, would be off by up
# to 0.04, in TF32 by 0.01. Exact ones cost nothing: all are 0.01 % of a ViT-B's step at batch 8192.
PRECISION = jax.lax.Precision.HIGHEST
FAR = -1e9  # the logit of what is no candidate: finite, as gradients through infinities are not


def normalised(x: Float[Array, "B D"]) -> Float[Array, "B D"]:
    """Rows of length 1; those of length 0 stay."""
    # A maximum of squares, as the gradient of a length at zero is not a number.
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))


def multi_positive(
    x: Float[Array, "B D"],
    groups: Int[Array, " B"],
    valid: Float[Array, " B"] | None = None,
    *,
    temperature: float = 0.1,
    block: int = 0,
    mesh: Mesh | None = None,
) -> dict[str, Float[Array, ""]]:
    """Sums over the anchors: `loss`, `floor` (log of each one's number of positives), `top1`
    (anchors whose nearest is a positive), and the `anchors` themselves.

    Every row is an anchor, its candidates are all others, its positives those of its group; a group
    below 0 is none. Rows with `valid` 0 are in nothing. An anchor without positives counts, with a
    loss of 0, as in the authors' code. `mesh` says which devices hold the rows (None: one); each
    sees its own anchors and all candidates. With `block` no more than so many of its anchors meet
    them at once: the same value and gradient, in memory linear in the block.
    """
    valid = jnp.ones(x.shape[:1], jnp.float32) if valid is None else valid
    x, anchors = normalised(x.astype(jnp.float32)), valid > 0
    losses, count, first = _of_rows((temperature, block, mesh), x, groups, valid)
    sums = {"loss": losses, "floor": jnp.log(jnp.maximum(count, 1.0)), "top1": first}
    found = {name: jnp.sum(jnp.where(anchors, value, 0.0)) for name, value in sums.items()}
    return found | {"anchors": jnp.sum(anchors, dtype=jnp.float32)}


class _Rows(NamedTuple):
    x: Float[Array, "b D"]
    place: Int[Array, " b"]  # in the batch
    groups: Int[Array, " b"]
    valid: Float[Array, " b"]


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Some anchors before all candidates."""

    logits: Float[Array, "b B"]
    other: Array  # bool[b, B]: not the anchor itself
    same: Array  # bool[b, B]: of the anchor's group
    candidate: Array  # bool[b, B]: other, and valid

    @classmethod
    def of(cls, own: "_Rows", everyone: "_Rows", temperature: float) -> "_Seen":
        logits = jnp.einsum("id,jd->ij", own.x, everyone.x, precision=PRECISION) / temperature
        other = own.place[:, None] != everyone.place[None]
        same = (own.groups[:, None] == everyone.groups[None]) & (own.groups >= 0)[:, None]
        return cls(logits, other, same, other & (everyone.valid > 0)[None])

    @property
    def count(self) -> Float[Array, " b"]:
        return jnp.sum(self.candidate & self.same, axis=1, dtype=jnp.float32)

    def losses(self) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """The loss of each anchor, and the logarithm of the sum over its candidates."""
        positive, count = self.candidate & self.same, self.count
        among = jnp.where(self.candidate, self.logits, FAR)
        total = jax.nn.logsumexp(among, axis=1)
        mean = jnp.sum(jnp.where(positive, among, 0.0), axis=1) / jnp.maximum(count, 1.0)
        return jnp.where(count > 0, total - mean, 0.0), total

    def first(self) -> Float[Array, " b"]:
        """Whether a positive is nearer than all that are none; in a tie it is not."""
        best = jnp.max(jnp.where(self.candidate & self.same, self.logits, FAR), axis=1)
        rest = jnp.max(jnp.where(self.candidate & ~self.same, self.logits, FAR), axis=1)
        return (best > rest).astype(jnp.float32)


Blocks = tuple[float, int, Mesh | None]  # temperature, anchors at once, devices


# Its gradient is written out: automatic, it would keep the logits, sum up every block's part of the
# candidates' gradient over the devices, and on some meshes gather the logits of all.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _of_rows(how: Blocks, x: Array, groups: Array, valid: Array) -> tuple[Array, Array, Array]:
    """Of each row: its loss, how many positives it has, and whether one of them is nearest."""
    return _forward(how, x, groups, valid)[0]


def _forward(how: Blocks, x: Array, groups: Array, valid: Array) -> tuple[Any, Any]:
    def rows(own: _Rows, everyone: _Rows) -> Any:
        seen = _Seen.of(own, everyone, how[0])
        losses, total = seen.losses()
        return losses, seen.count, seen.first(), total

    own = _Rows(x, jnp.arange(len(x)), groups, valid)
    *found, total = _over_anchors(rows, how, own, own)
    return tuple(found), (own, total, found[1])


def _backward(how: Blocks, kept: Any, cotangents: Any) -> tuple[Array, None, None]:
    """The gradient of all rows, from anchors and candidates at once: as logits are symmetric, what
    row i is given as a candidate of j follows from row i's own logits and from j's sum.
    """
    own, total, count = kept
    weight = jnp.where(count > 0, cotangents[0], 0.0)
    total = jnp.where(weight != 0, total, -FAR)  # what weighs nothing shall not overflow
    share = weight / jnp.maximum(count, 1.0)

    def rows(given: Any, every: Any) -> Any:
        own, weight, total, share = given
        everyone, weights, totals, shares = every
        seen = _Seen.of(own, everyone, how[0])
        logits, valid = seen.logits, (own.valid > 0)[:, None]
        # d loss / d logit of an anchor is q - p; of the anchor i first, of the anchors j then.
        anchor = weight[:, None] * jnp.exp(logits - total[:, None])
        anchor = jnp.where(seen.candidate, anchor - jnp.where(seen.same, share[:, None], 0.0), 0.0)
        among = weights[None] * jnp.exp(logits - totals[None])
        among = among - jnp.where(seen.same, shares[None], 0.0)
        slope = anchor + jnp.where(seen.other & valid, among, 0.0)
        return jnp.einsum("ij,jd->id", slope, everyone.x, precision=PRECISION) / how[0]

    given = (own, weight, total, share)
    return _over_anchors(rows, how, given, given), None, None


_of_rows.defvjp(_forward, _backward)


def _over_anchors(rows: Callable[[Any, Any], Any], how: Blocks, own: Any, everyone: Any) -> Any:
    """`rows(own, everyone)` with at most a block of `own` at once, each device its own ones."""
    _, block, mesh = how

    def local(own: Any, everyone: Any) -> Any:
        number = len(jax.tree.leaves(own)[0])
        most = min(block or number, number)
        size = next(size for size in range(most, 0, -1) if number % size == 0)
        if size == number:
            return rows(own, everyone)

        def cut(x: Array) -> Array:
            return x.reshape(number // size, size, *x.shape[1:])

        found = jax.lax.map(lambda part: rows(part, everyone), jax.tree.map(cut, own))
        return jax.tree.map(lambda x: x.reshape(number, *x.shape[2:]), found)

    if mesh is None:
        return local(own, everyone)
    spread, each = (sharding.batch_spec, P()), sharding.batch_spec
    # What all devices need travels once, before the loop.
    return jax.shard_map(local, mesh=mesh, in_specs=spread, out_specs=each, check_vma=False)(
        own, everyone
    )


@dataclasses.dataclass(frozen=True)
class Contrast(Objective):
    """`multi_positive` of `outputs["projection"]`, positives being of one `batch["group"]` or, with
    `positives="label"`, of one `batch["label"]` int32[B], -1 for none.
    """

    temperature: float = 0.1
    positives: str = "group"
    block: int = 0  # anchors of a device at once; 0: all
    mesh: Mesh | None = None

    head: ClassVar[str] = "projector"
    cross_sample: ClassVar[bool] = True

    @property
    def field(self) -> str:
        """What a source has to say of its images."""
        return "label" if self.positives == "label" else "image"

    def parts(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The scalar to minimise, and the sums of `multi_positive`."""
        sums = multi_positive(
            outputs["projection"],
            batch[self.positives],
            batch.get("valid"),
            temperature=self.temperature,
            block=self.block,
            mesh=self.mesh,
        )
        return sums["loss"] / jnp.maximum(sums["anchors"], 1.0), sums

    def metrics(self, sums: Mapping[str, jax.Array]) -> dict[str, Float[Array, ""]]:
        """`contrast_loss`, `contrast_floor`, below which no loss can be, and `contrast_top1`, the
        share of anchors whose nearest image is a positive.
        """
        anchors = jnp.maximum(sums["anchors"], 1.0)
        return {f"contrast_{name}": sums[name] / anchors for name in ("loss", "floor", "top1")}
