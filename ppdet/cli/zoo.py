"""List the published FCOS detectors: the AP on COCO val2017 as published, who published it, and whether weights exist.

Every name can be given to -c of the other commands, and to ppdet.zoo.load in Python, which downloads the weights.

examples:
  {program}
  ppdet eval -c fcos_r50_fpn_1x_coco -o weights=URL_OR_FILE
"""

from collections.abc import Sequence

from ppdet.core.command_line import make_parser, one_line_errors


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    make_parser(__doc__, program).parse_args(argv)
    with one_line_errors():
        from ppdet import zoo

        detectors = zoo.published()
        width = max(len(detector.name) for detector in detectors)
        print(f"{'name':{width}}    AP  {'source':15} weights")
        for detector in detectors:
            ap = "   -" if detector.ap is None else f"{detector.ap:.1f}"
            print(f"{detector.name:{width}}  {ap}  {detector.source.name:15} {detector.weights or 'none published'}")
