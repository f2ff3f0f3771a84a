"""The source of mainstay as syntax trees, for tests of its structure. Nothing of it is imported."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """A module as its syntax tree; `part` is what stands right below `mainstay`."""

    def __init__(self, name, text):
        self.name = name
        self.text = text
        self.part = name.split(".")[1] if "." in name else name
        self.is_public = not any(each.startswith("_") for each in name.split("."))

    @functools.cached_property
    def tree(self):
        """Its syntax tree: not made where tests are only collected, which each process does."""
        return ast.parse(self.text)

    @functools.cached_property
    def nodes(self):
        return [*ast.walk(self.tree)]

    @functools.cached_property
    def classes(self):
        return [node for node in self.nodes if isinstance(node, ast.ClassDef)]

    def exports(self):
        """The names in `__all__`, or none."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return set(ast.literal_eval(node.value))
        return set()

    @functools.cached_property
    def imported(self):
        """Where each imported name is from: a module, and its name in there unless it is one."""
        found = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found |= {alias.name: (alias.name, None) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    is_module = inner in modules()
                    target = (inner, None) if is_module else (node.module, alias.name)
                    found[alias.asname or alias.name] = target
        return found

    def imports(self):
        """The modules of ours that it imports, wherever in it, also those only for types."""
        return {module for module, _ in self.imported.values()} & modules().keys()

    @functools.cached_property
    def values(self):
        """The names that it uses otherwise than as the base of a class or in an annotation."""
        elsewhere = set()
        for node in self.nodes:
            for part in _bases_and_annotations(node):
                elsewhere.update(ast.walk(part))
        names = [node for node in self.nodes if isinstance(node, ast.Name)]
        return {node.id for node in names if node not in elsewhere}


def _bases_and_annotations(node):
    match node:
        case ast.ClassDef():
            return node.bases
        case ast.arg(annotation=ast.expr() as annotation):
            return [annotation]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.returns] if node.returns else []
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias"), value=ast.expr()):
            return [node.value]
        case ast.AnnAssign():
            return [node.annotation]
    return []


@functools.cache
def modules():
    """Every module by its name."""
    found = {}
    for path in sorted((SOURCE / "mainstay").rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        found[name] = Module(name, path.read_text())
    return found


def parts():
    """What stands right below `mainstay`: the packages, and the modules beside them."""
    return sorted({module.part for module in modules().values()})


def modules_of(part):
    return [module for module in modules().values() if module.part == part]


def class_of(module, name):
    """The class of ours that *name* stands for in *module*, as its module and its name, or None."""
    while module in modules():
        if any(node.name == name for node in modules()[module].classes):
            return module, name
        module, name = modules()[module].imported.get(name, (None, None))
    return None


def bases_of(module, node):
    """The classes of ours that a class is derived from right away."""
    names = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return {class_of(module, base.id) for base in names if isinstance(base, ast.Name)} - {None}


def docstrings(module):
    """Every docstring with the node that has it, the module itself included."""
    for node in module.nodes:
        if isinstance(node, ast.Module | ast.ClassDef | Function):
            text = ast.get_docstring(node)
            if text:
                yield node, text
