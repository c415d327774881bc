"""Which samples stand in the batch of a step: arithmetic on shares, phases and shards.

A plan says for each source how many samples every batch holds and at which places of the source's
endless stream they stand, so that the batch of any step is known without those before it.
"""

import bisect
import dataclasses
import itertools
import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from jaxfdsl.config import ConfigError
from jaxfdsl.data.shuffle import hash64, permute

Shares = Mapping[str, float | int | tuple[float | int, ...]]


def split_batch(
    shares: Mapping[str, float | int], batch_size: int, shards: int = 1, where: str = ""
) -> dict[str, int]:
    """How many samples each source gives to every batch: its share of it, exactly.

    Each count is a multiple of `shards`; raises `ConfigError` when that cannot be met and for
    shares that do not sum to 1, `where` saying what the shards are. A source whose share is 0 is
    left out.
    """
    if not shares or min(shares.values()) < 0:
        raise ConfigError(f"data.sources has the shares {dict(shares)}: type shares above 0.")
    if abs(sum(shares.values()) - 1) > 1e-6:
        total = sum(shares.values())
        hint = ", ".join(f"{name} {share / total:g}" for name, share in shares.items() if total)
        raise ConfigError(
            f"data.sources has the shares {dict(shares)}, which sum to {total:g}: type shares that "
            f"sum to 1, --config.data.sources.<name>.share=N ({hint or 'all are 0'})."
        )
    exact = {name: Fraction(share).limit_denominator(10_000) for name, share in shares.items()}
    exact = {name: share / sum(exact.values()) for name, share in exact.items() if share}
    unit = shards * math.lcm(*(share.denominator for share in exact.values()))
    if batch_size <= 0 or batch_size % unit:
        nearest = max(unit, round(batch_size / unit) * unit)
        raise ConfigError(
            f"batch_size={batch_size} cannot be split into whole samples by the shares "
            f"{dict(shares)} over {where or f'{shards} shard' + 's' * (shards > 1)}: "
            f"type --config.batch_size={nearest} (any multiple of {unit})."
        )
    return {name: int(share * batch_size) for name, share in exact.items()}


def phase_counts(
    shares: Shares,
    phase_starts: tuple[int, ...],
    batch_size: int,
    shards: int = 1,
    where: str = "",
) -> tuple[dict[str, int], ...]:
    """`split_batch` of every phase; a share is one number for all phases or one for each.

    Raises `ConfigError` for phases that do not begin at 0 and rise, and for shares that do not
    have one number a phase or are 0 throughout.
    """
    starts = tuple(phase_starts)
    if not starts or starts[0] != 0 or any(a >= b for a, b in itertools.pairwise(starts)):
        raise ConfigError(
            f"data.phase_starts={starts}: type steps that begin with 0 and rise, as (0,10000)."
        )
    each = {
        name: tuple(share) if isinstance(share, tuple | list) else (share,) * len(starts)
        for name, share in shares.items()
    }
    for name, numbers in each.items():
        field = f"data.sources.{name}.share={shares[name]}"
        if len(numbers) != len(starts):
            raise ConfigError(
                f"{field} has {len(numbers)} numbers and data.phase_starts={starts} begins "
                f"{len(starts)} phase{'s' * (len(starts) > 1)}: write one number for each into the "
                "recipe."
            )
        if not max(numbers) > 0:
            raise ConfigError(f"{field}: type a number above 0, or leave the source out.")
    return tuple(
        split_batch({name: numbers[i] for name, numbers in each.items()}, batch_size, shards, where)
        for i in range(len(starts))
    )


def in_groups(shards: int, group_size: int, sources: int, where: str = "") -> tuple[int, str]:
    """What each source's count is a multiple of on so many shards, in groups, and where that is.

    A group may span shards, but not where several sources are joined: its rows would not stay
    neighbours.
    """
    if group_size == 1:
        return shards, where
    where = where or f"{shards} shard{'s' * (shards > 1)}"
    unit = shards * group_size if sources > 1 else math.lcm(shards, group_size)
    return unit, f"{where}, in groups of data.group_size={group_size}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The places of every batch, as one process of `shard_count` sees them.

    With `repeats` r an image stands r times in its batch (some of them once less, where r does not
    divide the count), once in every r-th of it (Hoffer et al., arXiv 1901.09335).
    """

    counts: tuple[Mapping[str, int], ...]  # of each phase: samples of a global batch by source
    starts: tuple[int, ...] = (0,)
    repeats: int = 1
    shard_index: int = 0
    shard_count: int = 1

    def counts_at(self, step: int) -> Mapping[str, int]:
        """Samples of each source in the global batch of a step."""
        return self.counts[self._phase(step)]

    def places(
        self, name: str, step: int
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Of this shard's samples of a source: which image of its stream, and which sample ever.

        The two differ where images repeat: views of one image are different samples.
        """
        count = self.counts_at(step)[name]
        own = count // self.shard_count
        within = np.arange(own, dtype=np.int64) + self.shard_index * own
        samples = within + self._before(name, step, 1)
        if self.repeats == 1:
            return samples, samples
        # Another order each time, so that neighbours, which mixup mixes, are others in every view.
        images = self._images(count)
        again, place = np.divmod(within, images)
        place = permute(place, images, hash64(again))
        return place + self._before(name, step, self.repeats), samples

    def _phase(self, step: int) -> int:
        return bisect.bisect_right(self.starts, step) - 1

    def _before(self, name: str, step: int, repeats: int) -> int:
        """How many images of a source the batches before `step` hold."""
        ends = (*self.starts[1:], max(step, self.starts[-1]))
        total = 0
        for counts, start, end in zip(self.counts, self.starts, ends, strict=True):
            total += max(0, min(step, end) - start) * -(-counts.get(name, 0) // repeats)
        return total

    def _images(self, count: int) -> int:
        return -(-count // self.repeats)
