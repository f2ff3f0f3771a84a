"""Draw the pictures of the docs anew: `python docs/_pictures`.

Each module here with a function `draw` is a picture, docs/_static/NAME.svg; the tests compare what
they draw with the files. `top.py` and `dashboard.py` are programs of their own: their pictures are
taken from real runs.
"""

from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
PICTURES = HERE.parent / "_static"


def drawn() -> dict[str, str]:
    """Return each picture by its name."""
    modules = [
        import_module(path.stem) for path in sorted(HERE.glob("*.py")) if path.stem != "__main__"
    ]
    return {module.__name__: module.draw() for module in modules if hasattr(module, "draw")}


def main() -> None:
    """Write the files."""
    for name, picture in drawn().items():
        (PICTURES / f"{name}.svg").write_text(picture)
        print(f"wrote {name}.svg")


if __name__ == "__main__":
    main()
