"""Procedural images: opaque textured shapes, back to front, as in the dead-leaves model.

After "Learning to See by Looking at Noise" (Baradad et al., NeurIPS 2021), whose dead leaves carry textures here, and
"Visual Atoms" (Takashima et al., CVPR 2023), whose sinusoidal contours are the outlines of the shapes.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

_LAYERS = 13  # the background and at most twelve shapes
_HARMONICS = 6
_FLAT, _STRIPES, _CLOUDS, _GRAIN, _CHECKS = range(5)

_LAYER = np.dtype(
    [
        ("colours", np.float32, (2, 3)),
        ("texture", np.int32),
        ("amplitude", np.float32),
        ("frequency", np.float32),  # radians over the image's width, of stripes and checks
        ("grain", np.float32),  # lattice cells over the image's width, of clouds and grain
        ("stretch", np.float32),
        ("angle", np.float32),
        ("phase", np.float32),
        ("salt", np.uint64),
        ("gradient", np.float32, (3,)),  # direction x, y and offset of the ramp between the two colours
        ("x", np.float32),
        ("y", np.float32),
        ("radius", np.float32),
        ("rotation", np.float32),
        ("aspect", np.float32),
        ("power", np.float32),  # of the superellipse: 1 a diamond, 2 an ellipse, 8 a rectangle
        ("harmonics", np.float32, (_HARMONICS, 2)),  # amplitude and phase of the outline's waves
        ("mirrored", np.bool_),
        ("softness", np.float32),
        ("shading", np.float32),
    ]
)


def draw(seed: int, batch: int, count: int, size: int) -> np.ndarray:
    """Images that follow from ``(seed, batch)`` alone, uint8 of shape ``(count, size, size, 3)``."""
    rng = np.random.Generator(np.random.Philox(key=[seed, batch]))
    visible = 2 + (12 * rng.random(count) ** 2).astype(np.int64)
    return _render(_layers(rng, count, visible), visible, size)


def _layers(rng: np.random.Generator, count: int, visible: np.ndarray) -> np.ndarray:
    """Random layers of shape ``(count, _LAYERS)``; the first is the background."""
    shape = (count, _LAYERS)
    layers = np.zeros(shape, _LAYER)
    layers["colours"] = _colours(rng, shape)
    layers["texture"] = rng.integers(0, 5, shape)
    layers["amplitude"] = rng.uniform(0, 0.5, shape)
    layers["frequency"] = 2 * np.pi * np.exp(rng.uniform(np.log(1.5), np.log(15), shape))
    layers["grain"] = np.exp(rng.uniform(0, np.log(12), shape)) * np.where(layers["texture"] == _GRAIN, 3, 1)
    layers["stretch"] = np.exp(rng.uniform(-1.2, 1.2, shape))
    layers["angle"] = rng.uniform(0, np.pi, shape)
    layers["phase"] = rng.uniform(0, 2 * np.pi, shape)
    layers["salt"] = rng.integers(0, 1 << 52, shape)
    direction = rng.uniform(0, 2 * np.pi, shape)
    sharpness = 1 + np.where(rng.random(shape) < 0.4, rng.uniform(0, 8, shape), 0)
    offset = rng.uniform(-0.6, 0.6, shape)
    layers["gradient"] = np.stack(
        [sharpness * np.cos(direction), sharpness * np.sin(direction), sharpness * offset], -1
    )
    heavy_tail = 0.08 / np.sqrt(1 - rng.random(shape) * (1 - (0.08 / 0.6) ** 2))  # density falls as radius ** -3
    layers["radius"] = np.where(rng.random(shape) < 0.6, heavy_tail, rng.uniform(0.15, 0.55, shape))
    layers["x"], layers["y"] = rng.uniform(-0.1, 1.1, (2, *shape))
    # The front shape is mostly an object near the centre, as in photographs.
    rows = np.flatnonzero(rng.random(count) < 0.7)
    front = rows, visible[rows] - 1
    layers["x"][front], layers["y"][front] = rng.uniform(0.3, 0.7, (2, len(rows)))
    layers["radius"][front] = rng.uniform(0.2, 0.45, len(rows))
    layers["rotation"] = rng.uniform(0, np.pi, shape)
    layers["aspect"] = np.exp(rng.uniform(-0.8, 0.8, shape))
    layers["power"] = np.where(rng.random(shape) < 0.6, np.exp(rng.uniform(0, np.log(8), shape)), 2)
    wobble = np.where(rng.random(shape) < 0.4, 0, rng.uniform(0, 0.5, shape))[..., None]
    waves = rng.uniform(-1, 1, (*shape, _HARMONICS)) / np.sqrt(1 + np.arange(_HARMONICS))
    layers["harmonics"] = np.stack([wobble * waves, rng.uniform(0, 2 * np.pi, waves.shape)], -1)
    layers["mirrored"] = rng.random(shape) < 0.4
    layers["softness"] = np.where(rng.random(shape) < 0.9, np.exp(rng.uniform(np.log(0.02), np.log(0.08), shape)), 0.3)
    layers["shading"] = np.where(rng.random(shape) < 0.5, rng.uniform(0, 0.6, shape), 0)
    return layers


def _colours(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Two colours a layer: the first near the image's own or any, mostly pale; the second near the first or any."""
    any_colour = _from_hsv(6 * rng.random((2, *shape)), rng.random((2, *shape)) ** 2, rng.random((2, *shape)))
    own = rng.random((shape[0], 1, 3))
    first = np.where(rng.random((*shape, 1)) < 0.5, own + rng.uniform(-0.25, 0.25, (*shape, 3)), any_colour[0])
    second = np.where(rng.random((*shape, 1)) < 0.5, first + rng.uniform(-0.4, 0.4, (*shape, 3)), any_colour[1])
    return np.clip(np.stack([first, second], -2), 0, 1)


def _from_hsv(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    k = (np.array([5.0, 3.0, 1.0]) + hue[..., None]) % 6
    return (value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1).transpose(-1, 0, 1, 2))).transpose(1, 2, 3, 0)


@numba.njit(cache=True)
def _hash(x: int, y: int, salt: np.uint64) -> float:
    """A uniform number in [-1, 1) of a lattice point (the finaliser of SplitMix64)."""
    z = np.uint64(x) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(y) * np.uint64(0xC2B2AE3D27D4EB4F) + salt
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * (2.0 / 9007199254740992.0) - 1.0


@numba.njit(cache=True)
def _value_noise(x: float, y: float, salt: np.uint64) -> float:
    left, top = math.floor(x), math.floor(y)
    column, row = int(left) + 4096, int(top) + 4096
    s, t = x - left, y - top
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    upper = _hash(column, row, salt) * (1 - s) + _hash(column + 1, row, salt) * s
    lower = _hash(column, row + 1, salt) * (1 - s) + _hash(column + 1, row + 1, salt) * s
    return upper * (1 - t) + lower * t


@numba.njit(cache=True)
def _texture(layer: Any, x: float, y: float) -> float:
    """Brightness in about [-1, 1] at a pixel."""
    kind = layer.texture
    if kind == _FLAT:
        return 0.0
    along = math.cos(layer.angle) * x + math.sin(layer.angle) * y
    across = math.cos(layer.angle) * y - math.sin(layer.angle) * x
    if kind == _STRIPES:
        return math.sin(layer.frequency * along + layer.phase)
    if kind == _CHECKS:
        product = math.sin(layer.frequency * along + layer.phase) * math.sin(layer.frequency * across)
        return 1.0 if product > 0 else -1.0
    grain, stretch = layer.grain, layer.stretch
    noise = _value_noise(grain * along * stretch, grain * across / stretch, layer.salt)
    if kind == _CLOUDS:
        noise += 0.5 * _value_noise(2.1 * grain * x, 2.1 * grain * y, layer.salt + np.uint64(1))
        noise += 0.3 * _value_noise(4.3 * grain * x, 4.3 * grain * y, layer.salt + np.uint64(2))
    return noise


@numba.njit(cache=True)
def _depth(layer: Any, x: float, y: float) -> float:
    """Distance from the shape's centre at (x, y), in units of the distance of its outline in that direction."""
    across = math.cos(layer.rotation) * x + math.sin(layer.rotation) * y
    along = math.cos(layer.rotation) * y - math.sin(layer.rotation) * x
    power = layer.power
    distance = (abs(across * layer.aspect) ** power + abs(along / layer.aspect) ** power) ** (1 / power)
    if layer.harmonics[0, 0] != 0:
        angle = math.atan2(abs(along) if layer.mirrored else along, across)
        outline = 1.0
        for wave in range(_HARMONICS):
            outline += layer.harmonics[wave, 0] * math.cos((wave + 1) * angle + layer.harmonics[wave, 1])
        distance /= max(outline, 0.1)
    return distance


@numba.njit(cache=True)
def _paint(layer: Any, background: bool, image: np.ndarray) -> None:
    size = image.shape[0]
    for row in range(size):
        y = (row + 0.5) / size
        for column in range(size):
            x = (column + 0.5) / size
            if background:
                u, v = 2 * x - 1, 2 * y - 1
                depth, opacity = 0.0, 1.0
            else:
                u, v = (x - layer.x) / layer.radius, (y - layer.y) / layer.radius
                if abs(u) > 2.5 or abs(v) > 2.5:
                    continue
                depth = _depth(layer, u, v)
                opacity = min(1.0, max(0.0, (1 - depth) * layer.radius / layer.softness + 0.5))
                if opacity == 0:
                    continue
            ramp = 0.5 + 0.5 * (layer.gradient[0] * u + layer.gradient[1] * v + layer.gradient[2])
            ramp = min(1.0, max(0.0, ramp))
            light = 1 - layer.shading * min(1.0, depth) ** 2 + layer.amplitude * _texture(layer, x, y)
            for channel in range(3):
                colour = (layer.colours[0, channel] * (1 - ramp) + layer.colours[1, channel] * ramp) * light
                image[row, column, channel] += opacity * (min(1.0, max(0.0, colour)) - image[row, column, channel])


@numba.njit(cache=True, parallel=True)
def _render(layers: np.ndarray, visible: np.ndarray, size: int) -> np.ndarray:
    images = np.empty((len(layers), size, size, 3), np.uint8)
    for index in numba.prange(len(layers)):
        image = np.zeros((size, size, 3))
        for depth in range(visible[index]):
            _paint(layers[index, depth], depth == 0, image)
        images[index] = (255 * image).astype(np.uint8)
    return images
