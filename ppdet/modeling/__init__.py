"""Networks and losses. Importing this package registers every component in it."""

from ppdet.modeling import architectures, backbones, heads, layers, losses, necks

__all__ = ["architectures", "backbones", "heads", "layers", "losses", "necks"]
