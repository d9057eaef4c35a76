from ppdet.modeling.losses.fcos_loss import FCOSLoss

__all__ = ["FCOSLoss"]
