"""Take a class, function or constant out of a notebook by its syntax tree, so that tests hold what
the reader sees.
"""

import ast

import nbformat

from utils import ROOT


def name_of(node):
    """The name that a class, a function or an assignment to one name gives; else None."""
    if isinstance(node, ast.Assign) and [type(t) for t in node.targets] == [ast.Name]:
        return node.targets[0].id
    return node.name if isinstance(node, (ast.ClassDef, ast.FunctionDef)) else None


def load(lesson, *names):
    """The named classes, functions or constants of lesson "05"; one or a tuple.

    They are executed with the notebook's own top-level imports.
    """
    (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    space, found = {}, {}
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != "code" or "setup" in cell.metadata.get("tags", []):
            continue
        for node in ast.parse(cell.source).body:
            wanted = name_of(node) in names
            if wanted or isinstance(node, (ast.Import, ast.ImportFrom)):
                exec(compile(ast.Module([node], []), f"{path.name}", "exec"), space)
                if wanted:
                    found[name_of(node)] = space[name_of(node)]
    if missing := set(names) - set(found):
        raise LookupError(
            f"{path.name} defines no {', '.join(sorted(missing))} at the top level of a cell"
        )
    return found[names[0]] if len(names) == 1 else tuple(found[n] for n in names)
