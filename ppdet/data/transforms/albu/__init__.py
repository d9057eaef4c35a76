"""Transforms of the optional library Albumentations: the component Albu, and what a file may name."""

from ppdet.data.transforms.albu.apply_albu import Albu

__all__ = ["Albu"]
