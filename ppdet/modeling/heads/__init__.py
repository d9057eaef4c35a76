from ppdet.modeling.heads.fcos_head import FCOSFeat, FCOSHead

__all__ = ["FCOSFeat", "FCOSHead"]
