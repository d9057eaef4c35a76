"""Reading annotation files of strangers as text, JSON, XML or YAML: with limits, and one line for what is wrong."""

import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from ppdet.core.yaml_graph import Allowance, Loader
from ppdet.data.annotations.labeled_set import LARGEST_FILE, LARGEST_OF_IMAGE
from ppdet.utils.disk.files import NUL_ADVICE, read_regular, read_text
from ppdet.utils.errors import DataError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # nosec B405  # only its type


def text_of(path: str, largest: int = LARGEST_FILE) -> str:
    """Return the text of a file.

    Raises:
        DataError: it cannot be read, is larger than `largest` bytes, is not text, or has NUL characters.
    """
    try:
        text = read_text(path, largest=largest)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise DataError(f"{path} {NUL_ADVICE}")
    return text


def json_of(path: str, largest: int = LARGEST_FILE) -> Any:
    """Return the value of a JSON file; DataError as text_of, and if it is not JSON."""
    text = text_of(path, largest)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error})") from None
    except MemoryError:
        raise DataError(f"{path} does not fit into the memory") from None


def xml_of(path: str, largest: int = LARGEST_OF_IMAGE) -> "Element":
    """Return the root of an XML file. Entities and document types that define them are refused, not expanded.

    Raises:
        DataError: as text_of, and if it is not XML or declares entities.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        content: bytes | str = read_regular(path, largest)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    declared = re.match(rb"\s*<\?xml[^>]*encoding=[\"']([\w.-]+)[\"'][^>]*\?>", content[:200])  # type: ignore[arg-type]
    if declared and declared[1].lower().startswith((b"gb", b"big5", b"shift", b"euc")):  # Expat knows none of these
        encoding = declared[1].decode()
        try:
            content = content[declared.end() :].decode(encoding)  # type: ignore[union-attr]
        except (LookupError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is not text in {encoding}, as it says ({error}): save it as UTF-8") from None
    try:
        return fromstring(content)
    except DefusedXmlException:
        raise DataError(f"{path} declares XML entities, which no labelling tool writes: it is not read") from None
    except (ParseError, ValueError) as error:
        raise DataError(f"{path} is not XML ({error})") from None
    except MemoryError:
        raise DataError(f"{path} does not fit into the memory") from None


class _Loader(Loader):
    """Reads the YAML of labelling tools, with the limits of a configuration, and without aliases."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """Read a node and everything in it; PyYAML calls this for each node."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which no labelling tool writes")
        return super().compose_node(parent, index)


def yaml_of(path: str) -> Any:
    """Return the value of a YAML file of at most the size of a configuration.

    Raises:
        DataError: as text_of, and if it is not YAML, has aliases, or is nested too deeply.
    """
    text = text_of(path, largest=Allowance.size)
    try:
        return _Loader(text, Allowance()).get_single_data()
    except (yaml.YAMLError, ValueError) as error:
        line = " ".join(str(error).split())
        raise DataError(f"{path} is not YAML ({line})") from None


def whole(value: Any) -> int | None:
    """Return a side of an image in pixels, from text or JSON; None if it is not a whole number from 1 to 10 million."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if 1 <= number <= 1e7 and number == int(number) else None


def size_of(width: Any, height: Any) -> tuple[int, int] | None:
    """Return (width, height) if both are sides of an image, else None."""
    sides = whole(width), whole(height)
    return None if sides[0] is None or sides[1] is None else (sides[0], sides[1])
