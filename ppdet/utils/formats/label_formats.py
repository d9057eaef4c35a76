"""The formats in which labels are written and read, for options and messages, without importing writers and readers."""

FORMATS = ("labelstudio", "cvat", "yolo", "voc", "labelme", "coco")
READ_FORMATS = ("coco", "labelstudio", "labelme", "cvat", "voc", "csv", "yolo")  # those that `ppdet data convert` reads
# Formats that name the label file after its image, and whose images are copied beside the labels.
BESIDE_IMAGES = ("yolo", "voc", "labelme")
# What to do with images that have no labels yet, in messages of commands that need labels.
LABEL_FIRST = (
    "images without labels need these first: `ppdet data pick FOLDER --number 50` proposes which, and "
    "docs/LABELLING.md says how"
)
LOCAL_FILES = "/data/local-files/?d="  # the address under which Label Studio serves the files of its own machine
