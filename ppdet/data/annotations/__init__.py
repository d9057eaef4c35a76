"""Annotation files of labelling tools, as COCO, and the images that they label: before a data set is trained on.

`recognition.py` finds out which tool wrote a folder or file, one reader for each tool returns a `LabeledSet`
(`labeled_set.py`), `image_index.py` finds the images that it names, `tool_splits.py` their parts, `sides.py` splits
them anew, and `to_coco.py` writes COCO. The readers open and parse files themselves, with limits, and give each object
to globox. It reads one parsed object of each of these tools, so that one damaged object is counted and named, and
depends on nothing large. Others were tried on exports of these tools, and read whole folders:

* supervision 0.31 has neither CVAT nor Label Studio, refuses a folder of LabelMe or Pascal VOC for one damaged object,
  and moves Pascal VOC's boxes by one pixel;
* labelformat 0.1.17 has neither LabelMe nor Label Studio, does not read XML of CVAT that declares its encoding, and
  refuses a folder of Pascal VOC for one damaged object;
* datumaro 1.13 has no Label Studio, finds nothing in a folder of LabelMe's JSON, and refuses XML of CVAT without <meta>
  and Pascal VOC with classes that it was not told.
"""
