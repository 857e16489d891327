"""Find the text inside `<tag>…</tag>`. Pure; linear in the text."""

from __future__ import annotations


def content_of(text: str, tag: str) -> str | None:
    """What stands in the last complete `<tag>…</tag>`, stripped; None where there is none.

    Tags are compared as they are written; attributes are not known. Of nested ones the innermost counts.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    last_close = text.rfind(closing)
    if last_close < 0:
        return None
    start = text.rfind(opening, 0, last_close)
    if start < 0:
        return None
    start += len(opening)
    return text[start : text.find(closing, start)].strip()
