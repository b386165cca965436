"""What queues, types and jobs may be called."""

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)

#: Of a queue or a type.
is_name = _NAME.fullmatch
#: Of a job.
is_uuid = _UUID.fullmatch

NAME_FORM = "1 to 128 of A-Z a-z 0-9 . _ : -, beginning with a letter or digit"
