"""What the library warns of in its log, as a line beside the answer, in the language of the command line."""

from __future__ import annotations

import logging

from orchestra.cli.terminal import tell
from orchestra.cli.words import say


class _Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        tell(f"{say('warning:', '警告：')} {say(said, getattr(record, 'zh', said))}")


_HANDLER = _Told(logging.WARNING)


def tell_warnings() -> None:
    """From here on a warning is a line on stderr; without it Python would print it as it is, control sequences and all."""
    logging.getLogger("orchestra").addHandler(_HANDLER)
