"""scratch"""

import paddle
import paddle.nn.functional as F
from paddle import nn


class SSODFCOSLoss(nn.Layer):
    def __init__(self, *, ratio=0.01, gamma=2.0, loss_weight=None):
        super().__init__()
        self.ratio, self.gamma, self.w = ratio, gamma, loss_weight

    def forward(self, s, t):
        def flat(maps):
            return paddle.concat([m.transpose([0, 2, 3, 1]).reshape([-1, m.shape[1]]) for m in maps])

        ls, lt, ds, dt, qs, qt = (flat(m) for m in (s.logits, t.logits, s.distances, t.distances, s.quality, t.quality))
        pt, ps = F.sigmoid(lt).detach(), F.sigmoid(ls)
        best = pt.max(1)
        k = max(1, int(len(best) * self.ratio))
        top, idx = best.topk(k)
        fg = top.sum()
        mask = paddle.zeros_like(best)
        mask = paddle.scatter(mask, idx, paddle.ones([k])).unsqueeze(1)
        target = pt * mask
        cls = (
            F.binary_cross_entropy_with_logits(ls, target, reduction="none") * (target - ps).abs() ** self.gamma
        ).sum() / fg
        a, b = ds.gather(idx), dt.gather(idx)
        inter = (paddle.minimum(a, b)[:, 0] + paddle.minimum(a, b)[:, 2]) * (
            paddle.minimum(a, b)[:, 1] + paddle.minimum(a, b)[:, 3]
        )

        def area(z):
            return (z[:, 0] + z[:, 2]) * (z[:, 1] + z[:, 3])

        u = area(a) + area(b) - inter
        h = area(paddle.maximum(a, b))
        giou = inter / (u + 1e-7) - (h - u) / (h + 1e-7)
        box = (1 - giou).mean()
        q = F.binary_cross_entropy_with_logits(qs.gather(idx), F.sigmoid(qt.gather(idx)))
        w = self.w
        return {
            "loss": w["distill_loss_cls"] * cls + w["distill_loss_box"] * box + w["distill_loss_quality"] * q,
            "distill_loss_cls": cls,
            "distill_loss_box": box,
            "distill_loss_quality": q,
            "fg_sum": fg,
        }
