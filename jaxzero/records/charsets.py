"""Character sets that a record declares in ASCII, by the names that programs give them."""

import re
from encodings.aliases import aliases

LIKE_ASCII = re.compile(r"utf_8|ascii|latin|iso8859|iso2022|cp125|cp9|euc|gb|big5|shift_jis|koi8|johab")
CODECS = frozenset(filter(LIKE_ASCII.match, aliases.values()))
WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"}


def charset(name: str) -> str:
    """The codec of a `CA`, "" for an unknown one."""
    codec = name.strip().lower().removeprefix("x-").replace("-", "_").replace(" ", "_")
    codec = aliases.get(codec, codec)
    return WIDER.get(codec, codec) if codec in CODECS else ""


def decoded(data: bytes, codec: str) -> str:
    for name in filter(None, (codec, "utf-8")):
        try:
            return data.decode(name)
        except UnicodeError:
            continue
    return data.decode(codec or "latin-1", "replace")
