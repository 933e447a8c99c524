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

"""Import libraries that would import eventlet, without it.

Several oslo libraries import eventlet wherever it is installed, only to find
out whether it has patched the process.  Where nobody has imported it, it has
not; importing it would cost a tenth of a second, a deprecation notice, and
the promise that this package does not bring it into anybody's process.
"""

import contextlib
import sys
import typing

_NAME = 'eventlet'


@contextlib.contextmanager
def hidden() -> typing.Iterator[None]:
    """Make ``import eventlet`` fail meanwhile, unless somebody has done it."""
    if _NAME in sys.modules:
        yield
        return
    sys.modules[_NAME] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_NAME]
