"""The parts of the grammar of heads that HTTP/1.1 and HTTP/2 share, as regular expressions.

The C twin of this module is `_grammar.h`.
"""

from __future__ import annotations

import re
from typing import Final

# RFC 9110 sections 5.1, 5.5, 5.6.2 and RFC 9112 sections 2.1, 3, 4; no obsolete line folding.
TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE: Final = r"[\t -~\x80-\xff]"
TARGET: Final = r"[!-~\x80-\xff]"


def compiled(pattern: str, flags: re.RegexFlag = re.RegexFlag.NOFLAG) -> re.Pattern[bytes]:
    """Compile an expression for bytes."""
    return re.compile(pattern.encode("ascii"), flags)


is_host = compiled(
    r"(?:\[[0-9A-Za-z:.%_~\-]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::[0-9]{0,5})?"
).fullmatch
"""A registered name (maybe empty) or an address in brackets, and maybe a port of at most five
digits."""

PLAIN: Final = r"(?:/(?!\.\.?(?:[/?; ]|\Z))[A-Za-z0-9\-._~!$&'()*+,;=:@]*+)++(?:\?[!\"$-~]++)?"
"""An origin-form target in which nothing has two meanings: see PLAIN_PATH in flags.py. A space ends
it."""

is_plain = compiled(PLAIN).fullmatch

MAX_LENGTH_DIGITS: Final = 18
"""Most digits of a Content-Length: no arithmetic overflows."""
