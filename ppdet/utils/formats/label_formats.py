"""The names of the formats in which labels are written, for options of commands, without importing the writers."""

FORMATS = ("labelstudio", "cvat", "yolo", "voc", "labelme", "coco")
# Formats that name the label file after its image, and whose images are copied beside the labels.
BESIDE_IMAGES = ("yolo", "voc", "labelme")
LOCAL_FILES = "/data/local-files/?d="  # the address under which Label Studio serves the files of its own machine
