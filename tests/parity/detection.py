"""Decoding of maps into detections by the published rules of other code bases.

A level is (logits (1, C, H, W), distances (1, 4, H, W), quality (1, 1, H, W)), as `network.Network` gives it. A rule
returns rows (M, 6) of [class, score, x1, y1, x2, y2].
"""

import torch
from parity.cases import COCO_ROWS, HEIGHT, WIDTH, Case
from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)
KEPT = 100


def rows_of(level_map: Tensor) -> Tensor:
    """(1, K, H, W) as (H W, K)."""
    return level_map[0].flatten(1).t()


def grid(level_map: Tensor, step_x: int, step_y: int) -> Tensor:
    """(H W, 2): x and y of a map's cells, the first at 0."""
    height, width = level_map.shape[2:]
    y, x = torch.meshgrid(torch.arange(height) * step_y, torch.arange(width) * step_x, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def boxes_around(points: Tensor, distances: Tensor, right: int, bottom: int) -> Tensor:
    """(K, 4), clipped to 0 to right and 0 to bottom."""
    boxes = torch.cat([points - distances[:, :2], points + distances[:, 2:]], 1)
    return boxes.clamp(min=0).minimum(torch.tensor([right, bottom, right, bottom]))


def suppress(boxes: Tensor, scores: Tensor, threshold: float, added: int) -> list[int]:
    """Which boxes remain, the best first. added: to a box's width and height, where its last pixel counts."""
    areas = (boxes[:, 2:] - boxes[:, :2] + added).prod(1)
    order, kept = scores.argsort(descending=True), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        sides = boxes[best, 2:].minimum(boxes[order, 2:]) - boxes[best, :2].maximum(boxes[order, :2]) + added
        inter = sides.clamp(min=0).prod(1)
        order = order[~(inter / (areas[best] + areas[order] - inter) > threshold)]
    return kept


def by_class(labels: Tensor, boxes: Tensor, scores: Tensor, threshold: float, added: int = 0) -> Tensor:
    """Suppression within each class, and the best of all."""
    found = []
    for label in labels.unique():
        of_label = (labels == label).nonzero()[:, 0]
        found += of_label[suppress(boxes[of_label], scores[of_label], threshold, added)].tolist()
    found = torch.tensor(sorted(found, key=lambda i: -float(scores[i]))[:KEPT])
    return torch.cat([labels[found, None].float(), scores[found, None], boxes[found]], 1)


def mmdet(maps: list, case: Case) -> Tensor:
    """MMDetection 2: the best locations by their best class x centerness; a threshold on the class alone."""
    found = []
    for (logits, distances, quality), stride in zip(maps, STRIDES):
        points = grid(logits, stride, stride) + stride // 2
        scores, centerness, sides = rows_of(logits).sigmoid(), rows_of(quality).sigmoid(), rows_of(distances)
        sides = sides if case.exp else sides * stride
        if len(scores) > case.top_k:
            best = (scores * centerness).max(1).values.topk(case.top_k).indices
            points, scores, centerness, sides = points[best], scores[best], centerness[best], sides[best]
        found.append((boxes_around(points, sides, WIDTH, HEIGHT), scores, centerness))
    boxes, scores, centerness = (torch.cat(parts) for parts in zip(*found))
    location, label = (scores > 0.05).nonzero().unbind(1)
    return by_class(label, boxes[location], (scores * centerness)[location, label], case.nms)


def fcos_plus(maps: list, case: Case) -> Tensor:
    """FCOS_PLUS: the best classes above a threshold, each with its box; roots of scores; a box's last pixel counts."""
    found = []
    for (logits, distances, quality), stride in zip(maps, STRIDES):
        points = grid(logits, stride, stride) + stride // 2
        scores = rows_of(logits).sigmoid()
        location, label = (scores > 0.05).nonzero().unbind(1)
        scores = (scores * rows_of(quality).sigmoid())[location, label]
        if len(scores) > case.top_k:
            best = scores.topk(case.top_k).indices
            location, label, scores = location[best], label[best], scores[best]
        boxes = boxes_around(points[location], rows_of(distances)[location], WIDTH - 1, HEIGHT - 1)
        found.append((label, boxes, scores.sqrt()))
    rows = by_class(*(torch.cat(parts) for parts in zip(*found)), case.nms, added=1)
    return rows


def torchvision(maps: list, case: Case) -> Tensor:
    """torchvision: square roots of scores above a threshold, then top-k. Locations are the cells' top left corners,
    with a spacing of `input size // cells` pixels."""
    height, width = (maps[0][0].shape[i] * STRIDES[0] for i in (2, 3))
    found = []
    for (logits, distances, quality), stride in zip(maps, STRIDES):
        points = grid(logits, width // logits.shape[3], height // logits.shape[2])
        scores = (rows_of(logits).sigmoid() * rows_of(quality).sigmoid()).sqrt()
        location, label = (scores > 0.2).nonzero().unbind(1)
        scores = scores[location, label]
        best = scores.topk(min(len(scores), case.top_k)).indices
        location, label = location[best], label[best]
        boxes = boxes_around(points[location], rows_of(distances)[location] * stride, WIDTH, HEIGHT)
        found.append((label, boxes, scores[best]))
    rows = by_class(*(torch.cat(parts) for parts in zip(*found)), case.nms)
    rows[:, 0] = torch.tensor([COCO_ROWS.index(int(label)) for label in rows[:, 0]])
    return rows


DETECT = {"mmdet": mmdet, "fcos_plus": fcos_plus, "torchvision": torchvision}
