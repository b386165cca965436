"""Urls of stores as they may be told: in logs, errors and to whoever looks at the broker."""

import re

#: After a user's name, up to the last @ of all: a password that holds a / ? # or @ as it is makes
#: most urls useless, but must not be told for that.
_PASSWORD = re.compile(r"(?P<before>^[^:/?#]+:(?://)?[^:@/?#]*:).*@", re.ASCII | re.DOTALL)
#: Of an option; what others call a secret is one here.
_OPTION = re.compile(
    r"(?P<before>[?&][^=&]*(?:password|passwd|pwd|secret|token)[^=&]*=)[^&]*",
    re.ASCII | re.IGNORECASE,
)


def shown_url(url: str) -> str:
    """Without its passwords: that of the user, and those among its options."""
    return _PASSWORD.sub(r"\g<before>***@", _OPTION.sub(r"\g<before>***", url))
