"""Data sets: each is a list of records, which name an image file and its boxes."""

from ppdet.data.sources.coco_dataset import COCODataSet, SemiCOCODataSet
from ppdet.data.sources.dataset import DetectionDataset
from ppdet.data.sources.image_folder import ImageFolder

__all__ = ["COCODataSet", "DetectionDataset", "ImageFolder", "SemiCOCODataSet"]
