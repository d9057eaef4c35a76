"""An FCOS object detection toolkit: YAML in, a trained, evaluated and exported detector out."""

__version__ = "0.1.0"
