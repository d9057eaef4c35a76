"""The labelled and the unlabelled data set of semi-supervised training."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.sources.coco_dataset import COCODataSet
from ppdet.data.sources.dataset import join_path, require_folder
from ppdet.utils.disk.images import find_images, no_image_error
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


@register
@serializable
class SemiCOCODataSet(COCODataSet):
    """A COCO data set with labels, or one of unlabelled images.

    It raises DataError like COCODataSet, and for a folder without images.

    Args:
        dataset_dir: as in COCODataSet; this holds for all parameters but the last.
        image_dir: with supervised false and no anno_path, all images in this folder and its subfolders are used.
        anno_path: with supervised false, only the images of this file are used, not its annotations.
        data_fields: [image] if supervised is false.
        sample_num: as in COCODataSet.
        load_crowd: as in COCODataSet.
        allow_empty: as in COCODataSet.
        empty_ratio: as in COCODataSet.
        repeat: as in COCODataSet.
        for_evaluation: as in COCODataSet.
        supervised: whether the images have labels.
    """

    def __init__(
        self,
        *,
        dataset_dir: str | None = None,
        image_dir: str | None = None,
        anno_path: str | None = None,
        data_fields: Sequence[str] = ("image",),
        sample_num: int = -1,
        load_crowd: bool = False,
        allow_empty: bool = False,
        empty_ratio: float = 1.0,
        repeat: int = 1,
        for_evaluation: bool | None = None,
        supervised: bool = True,
    ) -> None:
        self.supervised = supervised
        if not supervised and set(data_fields) != {"image"}:
            raise ValueError("SemiCOCODataSet.data_fields: with supervised: false, only [image] is possible")
        if not supervised and not anno_path:
            self._read_folder(join_path(dataset_dir, image_dir), sample_num, repeat)
            return
        super().__init__(
            dataset_dir=dataset_dir,
            image_dir=image_dir,
            anno_path=anno_path,
            data_fields=data_fields,
            sample_num=sample_num,
            load_crowd=load_crowd,
            allow_empty=allow_empty,
            empty_ratio=empty_ratio,
            repeat=repeat,
            for_evaluation=for_evaluation,
        )

    def _categories(self, content: dict[str, Any]) -> tuple[list[int], list[str]]:
        return super()._categories(content) if self.supervised or "categories" in content else ([], [])

    def _annotations(self, content: dict[str, Any]) -> list:
        return super()._annotations(content) if self.supervised else []

    def _read_folder(self, folder: str, sample_num: int, repeat: int) -> None:
        require_folder(folder)
        paths = find_images(folder)
        paths = (paths[:sample_num] if sample_num >= 0 else paths) * repeat
        if not paths:
            raise no_image_error(folder)  # sample_num is 0
        self.anno_path, self.category_ids, self.class_names = None, [], []
        self.records = [{"im_id": np.array([i], dtype=np.int64), "im_file": path} for i, path in enumerate(paths)]
        logger.info(f"{os.path.basename(folder) or folder}: {len(paths)} images without labels")
