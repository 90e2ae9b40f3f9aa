"""A network of two parts: a frozen feature extractor that everybody holds, and a head that clients train.

After the pipeline of Rasul et al. 2025 (arXiv 2509.09742): only the head's update travels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeGuard

from torch import Tensor, nn

from auditor.model.forward_pass import Reading
from auditor.model.layers import LEAVES, find_layers
from auditor.model.output import select
from auditor.records import Join, Layer

EXTRACTOR, HEAD = "extractor", "head"
# What is tried first loses nothing; averages come last, because they decide what a head can leak.
LEVELS: tuple[tuple[Join, ...], ...] = (("none", "sequence"), ("flatten",), ("pool", "pool-sequence"), ("mean",))


def pooled(features: Tensor) -> Tensor:
    """Average feature maps `(row, feature, ...)` over space and time, or tokens `(row, token, feature)` over tokens."""
    if features.dim() == 3:
        return features.mean(1)
    return features.flatten(2).mean(2) if features.dim() > 3 else features


def joined(features: Tensor, join: Join, rows: int) -> Tensor:
    """Return the features of a batch of clips as a head reads them.

    Parameters
    ----------
    features
        `(clip * rows, ...)`: an extractor of frames gives as many rows a clip as it has frames, one of clips gives one.
    join
        none: as they are, so that a head sees every row by itself. sequence: `(clip, row, ...)`. flatten: `(clip, n)`.
        pool: every row averaged, see `pooled`. pool-sequence: that as a sequence. mean: that averaged over rows too.
    """
    if join in ("pool", "pool-sequence", "mean"):
        features = pooled(features)
    if join in ("none", "pool"):
        return features
    clips = features.reshape(features.shape[0] // rows, rows, *features.shape[1:])
    if join == "flatten":
        return clips.flatten(1)
    return clips.mean(1) if join == "mean" else clips


def possible_joins(features: tuple[int, ...]) -> tuple[tuple[Join, ...], ...]:
    """Return, level by level, the joins that change something about features of this shape (one clip).

    >>> possible_joins((1, 512)), possible_joins((8, 512))
    ((('none',),), (('none', 'sequence'), ('flatten',), ('mean',)))
    >>> possible_joins((1, 64, 4, 8, 8))
    (('none',), ('flatten',), ('pool',))
    """
    several, maps = features[0] > 1, len(features) > 2
    useful: Mapping[Join, bool] = {
        "none": True,
        "sequence": several,
        "flatten": several or maps,
        "pool": maps,
        "pool-sequence": several and maps,
        "mean": several,
    }
    levels = (tuple(join for join in level if useful[join]) for level in LEVELS)
    return tuple(level for level in levels if level)


class TwoPart(nn.Module):
    """An extractor and a head as one network; its parameters are called `extractor.…` and `head.…`.

    The extractor stays in evaluation mode and its parameters take no gradient.

    Parameters
    ----------
    extractor, head
        In evaluation mode.
    join
        How features enter the head.
    rows
        Rows of features that the extractor gives for one clip.
    """

    def __init__(self, extractor: nn.Module, head: nn.Module, join: Join, rows: int) -> None:
        super().__init__()
        self.extractor, self.head = extractor, head
        self.join, self.rows = join, rows
        self._given: Tensor | None = None
        for parameter in extractor.parameters():
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "TwoPart":
        """Set the mode of the head; the extractor keeps evaluating."""
        super().train(mode)
        self.extractor.eval()
        return self

    def holding(self, x: Tensor) -> "TwoPart":
        """Return the same head on what the extractor makes of one batch, whatever is put in later."""
        return TwoPart(_Held(select(self.extractor(x), None)), self.head, self.join, self.rows)

    def features(self, x: Tensor) -> Tensor:
        """Return what the extractor makes of a batch, averaged over space where the head reads averages."""
        features = select(self.extractor(x), None)
        return pooled(features) if self.join in ("pool", "pool-sequence", "mean") else features

    @contextmanager
    def given(self, features: Tensor) -> Iterator[None]:
        """Let the head read these features instead of the extractor's, buffers of the head in their precision."""
        owners = [(m, n, b) for m in self.head.modules() for n, b in m._buffers.items() if _follows(b, features)]
        self._given = features
        try:
            for module, name, value in owners:
                module._buffers[name] = value.to(features.dtype)
            yield
        finally:
            self._given = None
            for module, name, value in owners:
                module._buffers[name] = value

    def forward(self, x: Tensor) -> Any:
        """Return what the head returns for a batch that the extractor reads."""
        features = self.features(x) if self._given is None else self._given
        return self.head(joined(features, self.join, self.rows))


def _follows(buffer: Tensor | None, features: Tensor) -> TypeGuard[Tensor]:
    return buffer is not None and buffer.is_floating_point() and buffer.dtype != features.dtype


class _Held(nn.Module):
    """Stands for an extractor whose features are known."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features)

    def forward(self, x: Tensor) -> Tensor:
        """Return them, whatever is put in."""
        features = self.features
        assert isinstance(features, Tensor)
        return features


def trained_part(network: nn.Module) -> tuple[str, nn.Module]:
    """Return what clients train of a network, and the prefix of its parameters' names."""
    return (f"{HEAD}.", network.head) if isinstance(network, TwoPart) else ("", network)


def find_layers_of_parts(
    network: TwoPart, parameters: Mapping[str, Tensor], readings: Sequence[Reading]
) -> tuple[Layer, ...]:
    """Return the layers of both parts in the order of the forward pass, each named after its part."""
    layers: list[Layer] = []
    for role, part in ((EXTRACTOR, network.extractor), (HEAD, network.head)):
        start = f"{role}."
        own = {name.removeprefix(start): value for name, value in parameters.items() if name.startswith(start)}
        seen = [_renamed(r, start) for r in readings if any(name.startswith(start) for name in r.parameters)]
        layers += [
            replace(
                layer,
                index=len(layers) + layer.index,
                name=role if LEAVES.match(layer.name) else start + layer.name,  # a part that is a single module
                parameters=tuple(start + name for name in layer.parameters),
            )
            for layer in find_layers(part, own, seen)
        ]
    return tuple(layers)


def _renamed(reading: Reading, start: str) -> Reading:
    weights = tuple(
        (value, tuple(name.removeprefix(start) for name in names if name.startswith(start)))
        for value, names in reading.weights
    )
    return replace(reading, weights=weights)
