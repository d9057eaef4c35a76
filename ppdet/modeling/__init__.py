"""Networks and losses. Importing this package registers every component in it."""

from ppdet.modeling import architectures, backbones, heads, layers, losses, necks, soft_nms

__all__ = ["architectures", "backbones", "heads", "layers", "losses", "necks", "soft_nms"]
