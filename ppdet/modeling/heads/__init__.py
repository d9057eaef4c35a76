from ppdet.modeling.heads.fcos_head import FCOSHead
from ppdet.modeling.heads.towers import FCOSFeat

__all__ = ["FCOSFeat", "FCOSHead"]
