"""Cosines and sines of exact fractions of a turn, from a host table and integer interpolation."""

import functools

import numpy as np
from jaxtyping import Array, Int32

from .views import floor_quotient

TABLE = 4096  # entries a turn: straight lines between them are 3e-7 off
COSINE_BITS = 20


@functools.cache
def table() -> np.ndarray:
    """int32[4097]: cos(2 pi k / 4096) in Q20, the last equal to the first."""
    angle = 2 * np.pi / TABLE * np.arange(TABLE + 1)
    return np.round(np.cos(angle) * 2**COSINE_BITS).astype(np.int32)


def wrap(number: Int32[Array, "*n"], parts: Int32[Array, ""]) -> Int32[Array, "*n"]:
    """number modulo parts, for 0 <= number < 2**24."""
    return number - floor_quotient(number, parts) * parts


def cosine_sine(
    number: Int32[Array, "*n"], parts: Int32[Array, ""], table: Int32[Array, " 4097"]
) -> tuple[Int32[Array, "*n"], Int32[Array, "*n"]]:
    """cos and sin of number / parts turns in Q20, good to 2e-6. 0 <= number < parts < 4096,
    so that every quotient stays below 2**24.
    """
    place = floor_quotient(number * TABLE, parts)
    rest = number * TABLE - place * parts

    def between(place):
        place = place & (TABLE - 1)
        low, high = table[place], table[place + 1]
        return low + floor_quotient((high - low) * rest, parts)  # at most 1,609 * parts

    return between(place), between(place - TABLE // 4)


def product(value: Int32[Array, "..."], cosine: Int32[Array, "*n"]) -> Int32[Array, "*n"]:
    """floor(value * cosine / 2**20) without leaving int32: |value| < 2**20, cosine in Q20."""
    high, low = cosine >> 10, cosine & 1023
    return (value * high + (value * low >> 10)) >> 10
