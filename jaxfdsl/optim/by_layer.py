"""Optimisers that look at a whole parameter, where many layers' parameters are stacked in one."""

from typing import Any

import jax
import optax


def by_layer(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` on stacked blocks layer by layer, so that it does what it does on loose ones.

    The state is a list: that of the other parameters and, with `blocks`, that of the layers, whose
    leaves have the layer axis first. No update of `inner` may mix parameters.
    """

    def split(tree: Any) -> tuple[Any, Any]:
        return _pick(tree, stacked=False), _pick(tree, stacked=True)

    def init(params: Any) -> list[Any]:
        loose, stacked = split(params)
        return [inner.init(loose), *([jax.vmap(inner.init)(stacked)] if stacked else [])]

    def update(updates: Any, state: list[Any], params: Any = None) -> tuple[Any, list[Any]]:
        loose, stacked = zip(split(updates), split(params), strict=True)
        done, first = inner.update(loose[0], state[0], loose[1])
        if not stacked[0]:
            return done, [first]
        layers, second = jax.vmap(inner.update)(stacked[0], state[1], stacked[1])
        return {**done, **layers}, [first, second]

    return optax.GradientTransformation(init, update)


def _pick(tree: Any, *, stacked: bool) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if (name == "blocks") == stacked}
