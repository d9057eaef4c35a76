"""Annotation files of labelling tools, as COCO, and the images that they label: before a data set is trained on.

`recognition.py` finds out which tool wrote a folder or file, one reader for each tool returns a `LabeledSet`
(`labeled_set.py`), `image_index.py` finds the images that it names, `sides.py` splits it, and `to_coco.py` writes
COCO. The readers open and parse files themselves, with limits, and give each object to globox: of the libraries that
were tried (labelformat, globox, supervision, datumaro) it alone reads one parsed object of each of these tools, so that
one damaged object is counted and named in place of the whole set being refused, and it depends on nothing large.
"""
