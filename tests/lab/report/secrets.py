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

"""The secrets of a run, which must appear in no log and no report."""

import base64
from collections.abc import Iterable

MASK = '***'


class Secrets:
    """Knows every secret that was made, and finds it in a text, as it is or in base64."""

    def __init__(self) -> None:
        self._forms: set[str] = set()

    def know(self, secrets: Iterable[str]) -> None:
        """Learn secrets; an empty one is none."""
        for secret in secrets:
            if secret:
                encoded = base64.b64encode(secret.encode()).decode()
                self._forms |= {secret, encoded, encoded.rstrip('=')}

    def are_in(self, text: str) -> bool:
        """Say whether a text has one in it."""
        return any(form in text for form in self._forms)

    def masked(self, text: str) -> str:
        """Return the text with ``***`` in the place of each."""
        # The longest first: one may be a part of another one.
        for form in sorted(self._forms, key=len, reverse=True):
            text = text.replace(form, MASK)
        return text
