"""Take a class or function out of a notebook by its syntax tree, so that tests hold what the reader
sees.
"""

import ast

import nbformat

from utils import ROOT


def load(lesson, *names):
    """The named classes or functions of lesson "05", executed with the notebook's own top-level
    imports; one or a tuple.
    """
    (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    space, found = {}, {}
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != "code" or "setup" in cell.metadata.get("tags", []):
            continue
        for node in ast.parse(cell.source).body:
            wanted = isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in names
            if wanted or isinstance(node, (ast.Import, ast.ImportFrom)):
                exec(compile(ast.Module([node], []), f"{path.name}", "exec"), space)
                if wanted:
                    found[node.name] = space[node.name]
    if missing := set(names) - set(found):
        raise LookupError(
            f"{path.name} defines no {', '.join(sorted(missing))} at the top level of a cell"
        )
    return found[names[0]] if len(names) == 1 else tuple(found[n] for n in names)
