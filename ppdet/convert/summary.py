"""The report of a conversion that users read."""

from collections import Counter
from collections.abc import Iterable, Mapping

from ppdet.convert.conversion import Conversion
from ppdet.utils.printable import printable

PARTS = ("backbone", "neck", "fcos_head")


def summary_lines(conversion: Conversion) -> list[str]:
    """Return lines on the arrays that were converted, made, left out (with the reasons) or are missing."""
    lines = [f"{conversion.code_base}: {len(conversion.names)} arrays mapped ({by_part(conversion.names)})"]
    lines += [f"  {note}" for note in conversion.notes]
    lines += [f"made {line}" for line in by_reason(conversion.made)]
    lines += [f"left {line}" for line in by_reason(conversion.left)]
    if conversion.missing:
        lines.append(
            f"missing {len(conversion.missing)} ({by_part(conversion.missing)}): {first_names(conversion.missing)}"
        )
    else:
        lines.append("missing nothing")
    return [printable(line) for line in lines]  # names come from a file


def by_part(names: Iterable[str]) -> str:
    """Count parameter names by the part of the detector: "backbone 265, neck 16, fcos_head 50"."""
    parts = Counter(name.split(".")[0] for name in names)
    if not set(parts) & set(PARTS):
        return f"backbone {sum(parts.values())}"
    return ", ".join(f"{part} {count}" for part, count in parts.items())


def by_reason(reasons: Mapping[str, str]) -> list[str]:
    """Return a line for each reason: the number of names, the reason, and the first names."""
    names: dict[str, list[str]] = {}
    for name, why in reasons.items():
        names.setdefault(why, []).append(name)
    return [f"{len(group)} ({why}): {first_names(group)}" for why, group in names.items()]


def first_names(names: list[str]) -> str:
    """Return the first three names."""
    shown = [name[:100] for name in names[:3]]
    return ", ".join(shown) + (", …" if len(names) > 3 else "")
