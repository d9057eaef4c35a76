"""Size of the code by package: the numbers in docs/ARCHITECTURE.md.

A line of code is a line that has a token other than a comment and is not part of a docstring.
"""

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

from common import ROOT, make_parser, report

EXAMPLES = """examples:
  python benchmarks/code_size.py
  python benchmarks/code_size.py --json output/code_size.json
"""
FCOS = "modeling/architectures/fcos.py"  # its docstring lists the files of FCOS in the order in which data flows
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
LONG_FUNCTION = 40


def count(path: Path) -> tuple[int, int]:
    """Return the number of lines of code in a file, and of all its lines."""
    text = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            docstrings |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings), len(text.splitlines())


def package_of(path: Path) -> str:
    """Return the package of a module, one or two levels below ppdet, such as ppdet/engine/export."""
    folders = path.relative_to(ROOT / "ppdet").parts[:-1]
    return "/".join(("ppdet", *folders[:2]))


def functions() -> list[tuple[str, int]]:
    """Return every function below ppdet as "file: name", and the number of its lines without its docstring."""
    found = []
    for path in sorted((ROOT / "ppdet").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = node.end_lineno - body[0].lineno + 1 if body else 0
                found.append((f"{path.relative_to(ROOT)}: {node.name}", lines))
    return found


def main() -> None:
    arguments = make_parser(__doc__, EXAMPLES).parse_args()
    paths = sorted((ROOT / "ppdet").rglob("*.py"))
    code, lines, files = Counter(), Counter(), Counter()
    for path in paths:
        package, (code_lines, all_lines) = package_of(path), count(path)
        code[package] += code_lines
        lines[package] += all_lines
        files[package] += path.name != "__init__.py"
    rows = [[package, files[package], code[package], lines[package]] for package in sorted(code)]
    rows.append(["all of ppdet", sum(files.values()), sum(code.values()), sum(lines.values())])
    kit_packages = [package for package in code if package.startswith("ppdet/acceptance")]
    kit = [sum(counter[package] for package in kit_packages) for counter in (files, code, lines)]
    rows.append(["all but the acceptance kit", *(total - part for total, part in zip(rows[-1][1:], kit))])
    docstring = ast.get_docstring(ast.parse((ROOT / "ppdet" / FCOS).read_text(encoding="utf-8"))) or ""
    fcos = [count(ROOT / name) for name in re.findall(r"^\d+\. (\S+\.py)", docstring, re.MULTILINE)]
    rows.append(["FCOS from images to losses and detections", len(fcos), *map(sum, zip(*fcos))])
    report("Size", ["package", "files", "lines of code", "all lines"], rows, arguments.json)

    names = Counter(path.stem for path in paths if path.stem not in ("__init__", "__main__"))
    repeated = sorted(name for name, times in names.items() if times > 1)
    print("module names that occur more than once:", ", ".join(repeated) or "none")
    every = functions()
    long = sorted(((size, name) for name, size in every if size > LONG_FUNCTION), reverse=True)
    print(f"functions of more than {LONG_FUNCTION} lines: {len(long)} of {len(every)}")
    for size, name in long:
        print(f"  {size:4} {name}")


if __name__ == "__main__":
    main()
