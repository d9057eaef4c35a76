"""HTML pages of one file each, which a browser shows without a network: charts, tables and galleries of pictures.

`markup.py` escapes all text, `frame.py` makes the page, `charts.py` draws, `gallery.py` shows pictures with filters:

    from ppdet.visualize.pages import Picture, Section, Tag, bars, gallery, write_page

    pictures = [Picture("a.jpg", [("truth", image)], [Tag("car", "missed", 0.4)])]
    write_page("report.html", "Cars", [Section("Boxes", [bars("boxes of each class", {"car": 12, "bus": 3})]),
                                       Section("Images", [gallery(pictures)])])
"""

from ppdet.visualize.pages.charts import Line, bars, heat_map, histogram, lines
from ppdet.visualize.pages.frame import Section, charts_in_row, page, table, tiles, write_page
from ppdet.visualize.pages.gallery import Picture, Tag, gallery
from ppdet.visualize.pages.markup import Html, element, join

__all__ = [
    "Html",
    "Line",
    "Picture",
    "Section",
    "Tag",
    "bars",
    "charts_in_row",
    "element",
    "gallery",
    "heat_map",
    "histogram",
    "join",
    "lines",
    "page",
    "table",
    "tiles",
    "write_page",
]
