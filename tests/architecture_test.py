"""Who imports whom, held against docs/architecture.md; how long files and functions are, and their names."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = ("tfp_bayesrnn", "zoo")
# What any file may import, and what imports from everywhere: the package itself.
EVERYWHERE = {"errors"}

LONGEST_FILE, LONGEST_FUNCTION, SHORT_BODY = 400, 60, 30
FILES = sorted(
    [
        ROOT / "absl_main.py",
        *(
            path
            for folder in (*PACKAGES, "benchmarks", "scripts", "tests")
            for path in (ROOT / folder).rglob("*.py")
        ),
    ]
)


def rows(package):
    """The rooms of a package by row of its table, from the ground up: folders, and files outside of them."""
    section = re.split(r"^## ", TEXT.split(f"## `{package}/`")[1], flags=re.MULTILINE)[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [re.findall(r"`(\w+)(?:/|\.py)`", cell) for cell in first_cells]


def imported(path):
    """Modules of ours that a file imports, in whatever function, or loads by a name that is written out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"(tfp_bayesrnn|zoo)(\.\w+)+", str(node.value)):
            yield node.value


def arrows(package):
    """Which room takes what from which other: {(room, room): [file, ...]}."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        room = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        for name in imported(path):
            parts = name.split(".")
            if (
                parts[0] == package
                and room not in ("__init__", "__main__")
                and len(parts) > 1
                and parts[1] != room
            ):
                if (ROOT / package / parts[1]).is_dir() or (ROOT / package / f"{parts[1]}.py").exists():
                    found.setdefault((room, parts[1]), []).append(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_described(package):
    found = {
        path.stem
        for path in (ROOT / package).iterdir()
        if path.stem not in ("__init__", "__main__", "__pycache__", "py") and path.stem not in EVERYWHERE
    }
    assert {room for row in rows(package) for room in row} == found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_runs_up(package):
    floors = {room: floor for floor, row in enumerate(rows(package)) for room in row}
    floors.update(dict.fromkeys(EVERYWHERE, -1))
    up = {arrow: files for arrow, files in arrows(package).items() if floors[arrow[0]] <= floors[arrow[1]]}
    assert not up


def test_the_library_knows_no_zoo_and_the_zoo_no_command():
    for path in (ROOT / "tfp_bayesrnn").rglob("*.py"):
        assert not [name for name in imported(path) if name.split(".")[0] in ("zoo", "absl_main")], path
    for path in (ROOT / "zoo").rglob("*.py"):
        assert not [name for name in imported(path) if name.split(".")[0] == "absl_main"], path


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_within_a_folder(package):
    imports = {}
    for path in (ROOT / package).rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        imports[name] = set()
        for target in imported(path):
            file = ROOT / target.replace(".", "/")
            module = (
                target if file.with_suffix(".py").exists() or file.is_dir() else target.rpartition(".")[0]
            )
            imports[name].add(module)
    while imports:
        free = [name for name, targets in imports.items() if not (targets - {name}) & imports.keys()]
        assert free, f"a circle among {sorted(imports)}"
        for name in free:
            del imports[name]


def lines_of(function):
    """How many lines a function has.

    Where its body has fewer than 30, only what is said of its arguments is long: no docstring counts then.
    """
    lines, first = function.end_lineno - function.lineno + 1, function.body[0]
    if ast.get_docstring(function) is None or len(function.body) == 1:
        return lines
    body = function.end_lineno - function.body[1].lineno + 1
    return lines if body >= SHORT_BODY else lines - (first.end_lineno - first.lineno + 1)


def test_no_file_and_no_function_is_long():
    files, functions = {}, {}
    for path in FILES:
        text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
        files[name] = len(text.splitlines())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                functions[name, node.name, node.lineno] = lines_of(node)
    assert len(files) > 300
    assert not {name: lines for name, lines in files.items() if lines > LONGEST_FILE}
    assert not {name: lines for name, lines in functions.items() if lines > LONGEST_FUNCTION}


def test_a_file_that_is_called_like_its_folder_holds_what_is_called_so():
    for path in FILES:
        if path.stem == path.parent.name:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
            assert path.stem in [name.lower() for name in names], path
