"""What a conversion did, in lines for people."""

from collections import Counter
from collections.abc import Mapping

from ppdet.convert.conversion import Conversion

PARTS = ("backbone", "neck", "fcos_head")


def describe(conversion: Conversion) -> list[str]:
    """What mapped by part, what was made, what was left and why, and what is missing."""
    lines = [f"{conversion.code_base}: {len(conversion.names)} arrays mapped ({by_part(conversion.names)})"]
    lines += [f"  {note}" for note in conversion.notes]
    lines += [f"made {line}" for line in by_reason(conversion.made)]
    lines += [f"left {line}" for line in by_reason(conversion.left)]
    if conversion.missing:
        lines.append(f"missing {len(conversion.missing)} ({by_part(conversion.missing)}): {some(conversion.missing)}")
    else:
        lines.append("missing nothing")
    return lines


def by_part(names: Mapping[str, str]) -> str:
    parts = Counter(name.split(".")[0] for name in names)
    if not set(parts) & set(PARTS):
        return f"backbone {sum(parts.values())}"
    return ", ".join(f"{part} {count}" for part, count in parts.items())


def by_reason(reasons: Mapping[str, str]) -> list[str]:
    """A line for each reason: how many, why, and the first names."""
    names: dict[str, list[str]] = {}
    for name, why in reasons.items():
        names.setdefault(why, []).append(name)
    return [f"{len(found)} ({why}): {some(found)}" for why, found in names.items()]


def some(names: list[str]) -> str:
    """The first three, each in one line whatever it holds."""
    shown = [name[:100].encode("unicode_escape").decode() for name in names[:3]]
    return ", ".join(shown) + (", …" if len(names) > 3 else "")
