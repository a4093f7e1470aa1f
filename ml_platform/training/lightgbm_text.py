"""LightGBM's own text format, read without LightGBM: what its trees decide, exactly.

Source of the format and of the rules: LightGBM 4, ``src/io/tree.cpp`` and ``include/LightGBM/tree.h``
(``NumericalDecision``, ``CategoricalDecision``): a node's ``decision_type`` has bit 0 = categorical, bit 1 = missing
goes left, bits 2 and 3 = kind of missing value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ml_platform.core.errors import ArtifactCorrupt, DeclarationError

__all__ = ["MISSING_NAN", "MISSING_NONE", "MISSING_ZERO", "TextModel", "Tree", "parse", "strip_parameters"]

MISSING_NONE: Final = 0
MISSING_ZERO: Final = 1
MISSING_NAN: Final = 2

_PARAMETERS: Final = "\nparameters:"
_END: Final = "\nend of parameters\n"


@dataclass(frozen=True)
class Tree:
    """One tree. Children ≥ 0 are inner nodes, child c < 0 is leaf −c − 1; a tree of one leaf has no inner node."""

    features: tuple[int, ...]
    thresholds: tuple[float, ...]
    decisions: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    leaf_values: tuple[float, ...]
    category_bounds: tuple[int, ...]
    category_bits: tuple[int, ...]

    def is_categorical(self, node: int) -> bool:
        return bool(self.decisions[node] & 1)

    def default_left(self, node: int) -> bool:
        return bool(self.decisions[node] & 2)

    def missing(self, node: int) -> int:
        """``MISSING_NONE``, ``MISSING_ZERO`` or ``MISSING_NAN``."""
        return (self.decisions[node] >> 2) & 3

    def categories(self, node: int) -> tuple[int, ...]:
        """The codes that go left at a categorical node, rising."""
        place = int(self.thresholds[node])
        words = self.category_bits[self.category_bounds[place] : self.category_bounds[place + 1]]
        return tuple(32 * index + bit for index, word in enumerate(words) for bit in range(32) if word >> bit & 1)


@dataclass(frozen=True)
class TextModel:
    """A binary classifier: the score is the logistic of the sum of one leaf of each tree."""

    features: int
    trees: tuple[Tree, ...]


def strip_parameters(text: str) -> str:
    """The model without its block of parameters, which names threads, paths and machines and is not the model."""
    start = text.find(_PARAMETERS)
    end = text.find(_END, start)
    if start < 0 or end < 0:
        return text
    return text[:start] + "\n" + text[end + len(_END) :]


def parse(text: str) -> TextModel:
    """Reads a model.

    Raises:
        DeclarationError: a kind of model that is not supported; says which.
        ArtifactCorrupt: this is not a LightGBM model.
    """
    body = text.split("\nend of trees", 1)[0]
    header, *blocks = body.split("\nTree=")
    values = _values(header)
    if not header.startswith("tree\n") or "max_feature_idx" not in values:
        raise ArtifactCorrupt("This is not a LightGBM model.", next_step="Restore the artifact from a backup.")
    if values.get("objective") != "binary sigmoid:1" or values.get("num_class") != "1" or "average_output" in header:
        raise DeclarationError(
            "Only boosted binary classifiers with the plain logistic link are supported.",
            field="objective",
            next_step='Train with objective="binary".',
        )
    return TextModel(int(values["max_feature_idx"]) + 1, tuple(_tree(block) for block in blocks))


def _values(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _tree(block: str) -> Tree:
    values = _values(block)
    if values.get("is_linear", "0") != "0":
        raise DeclarationError("Linear trees are not supported.", field="linear_tree", next_step="Train without them.")
    return Tree(
        features=_ints(values, "split_feature"),
        thresholds=_floats(values, "threshold"),
        decisions=_ints(values, "decision_type"),
        left=_ints(values, "left_child"),
        right=_ints(values, "right_child"),
        leaf_values=_floats(values, "leaf_value"),
        category_bounds=_ints(values, "cat_boundaries"),
        category_bits=_ints(values, "cat_threshold"),
    )


def _ints(values: Mapping[str, str], name: str) -> tuple[int, ...]:
    return tuple(int(item) for item in values.get(name, "").split())


def _floats(values: Mapping[str, str], name: str) -> tuple[float, ...]:
    return tuple(float(item) for item in values.get(name, "").split())
