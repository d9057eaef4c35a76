"""AutoAugment of detection: the component, its published policies as tables, and their operations."""

from ppdet.data.transforms.auto_augment.apply_policy import AutoAugment

__all__ = ["AutoAugment"]
