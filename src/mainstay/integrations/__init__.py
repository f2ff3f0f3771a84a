"""Where the libraries of others meet mainstay: one module each, which imports that library alone.

Each module refuses at import a version of its library that it does not know.
"""
