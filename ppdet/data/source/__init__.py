"""Data sets: lists of records that name an image file and its boxes."""

from ppdet.data.source.coco import COCODataSet
from ppdet.data.source.dataset import DetectionDataset
from ppdet.data.source.image_folder import ImageFolder
from ppdet.data.source.semi import SemiCOCODataSet

__all__ = ["COCODataSet", "DetectionDataset", "ImageFolder", "SemiCOCODataSet"]
