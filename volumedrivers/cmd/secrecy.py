#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Keep secret values out of everything that is printed or logged.

The package's own errors and results hold no secret; what os-brick, libvirt
and their tools say may.  So every text is searched for the values before a
person sees it.
"""

import base64
from collections.abc import Iterable
import contextlib
import json
import logging
import re
import typing
import urllib.parse
from xml.sax import saxutils

HIDDEN = '***'

# A shorter value is hidden only where it stands alone: "abc" is also a part of
# many harmless words and identifiers.
_SHORT = 6


class Mask:
    """The secret values of this process, and how to hide them."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, values: Iterable[str]) -> None:
        """Hide these values from now on, as they are and as formats write them."""
        for value in values:
            if value:
                self._values |= _spellings(value)
        if self._values:
            # The longest first: a secret may be the beginning of another.
            ordered = sorted(self._values, key=len, reverse=True)
            self._pattern = re.compile('|'.join(map(_expression, ordered)))

    def text(self, text: str) -> str:
        """Return the text with each secret shown as ``***``."""
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)

    def data(self, value: typing.Any) -> typing.Any:
        """Return JSON-able data with each secret in a string value hidden.

        Keys are the package's own and stay.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.data(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.data(item) for item in value]
        return value


def hear(session: typing.Any, mask: Mask) -> None:
    """Learn the secrets that Cinder's answers hold, before anybody logs them.

    :param session: keystoneauth's, which writes whole answers to the log
    """

    def learn(answer: typing.Any, **_: object) -> None:
        if b'connection_info' not in answer.content:
            return
        from volumedrivers import connection_tree  # noqa: PLC0415

        with contextlib.suppress(ValueError):  # no JSON: not Cinder's
            mask.add(connection_tree.secrets(answer.json()))

    session.session.hooks['response'].append(learn)


class MaskingFormatter(logging.Formatter):
    """A log formatter whose lines, tracebacks included, are masked."""

    def __init__(self, mask: Mask, pattern: str, **options: typing.Any) -> None:
        super().__init__(pattern, **options)
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        """Render the record, then hide what is secret in it."""
        return self._mask.text(super().format(record))


def _spellings(value: str) -> set[str]:
    return {
        value,
        json.dumps(value)[1:-1],
        repr(value)[1:-1],
        saxutils.escape(value),
        saxutils.quoteattr(value)[1:-1],
        urllib.parse.quote(value, safe=''),
        base64.b64encode(value.encode()).decode(),
    }


def _expression(value: str) -> str:
    literal = re.escape(value)
    return rf'(?<!\w){literal}(?!\w)' if len(value) < _SHORT else literal
