from ppdet.modeling.losses.dense_teacher_loss import SSODFCOSLoss
from ppdet.modeling.losses.fcos_loss import FCOSLoss

__all__ = ["FCOSLoss", "SSODFCOSLoss"]
