"""Where the libraries of others meet mainstay: one module each, which imports that library alone.

Each module refuses at import a version of its library that it does not know; where the library is
missing, a note says what to install.
"""
