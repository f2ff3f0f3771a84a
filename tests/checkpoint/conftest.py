"""What the tests of checkpoints share, besides `support.checkpoints`."""

from support.directories import tmp_path

__all__ = ["tmp_path"]
