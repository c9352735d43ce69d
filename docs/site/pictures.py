"""Pictures that open in their full size."""

import re

PICTURE = re.compile(r'<img [^>]*src="([^"]+)"[^>]*>')


def on_page_content(content: str, **_: object) -> str:
    """Make every picture of a page a link to its file."""
    return PICTURE.sub(lambda found: f'<a href="{found[1]}">{found[0]}</a>', content)
