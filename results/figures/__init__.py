"""Figures of result tables, for print and for colour-blind readers; a method has one colour in all of them."""

from results.figures.clients import client_distributions, label_counts
from results.figures.compare import accuracy_against_bytes, over_rounds
from results.figures.fairness import client_accuracies
from results.figures.runs import accuracy_and_bpp
from results.figures.searches import front, slices
from results.figures.style import COLOURS, Style, save, style

__all__ = [
    "COLOURS",
    "Style",
    "accuracy_against_bytes",
    "accuracy_and_bpp",
    "client_accuracies",
    "client_distributions",
    "front",
    "label_counts",
    "over_rounds",
    "save",
    "slices",
    "style",
]
