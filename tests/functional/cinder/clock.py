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

"""The clock by which it is settled what Cinder may still be at."""

from collections.abc import Iterator
import contextlib
import time
import types
from unittest import mock

from volumedrivers.attachment.block_storage import settle


@contextlib.contextmanager
def put_forward(seconds: float) -> Iterator[None]:
    """Let it be so much later for whoever settles."""
    later = types.SimpleNamespace(time=lambda: time.time() + seconds)
    with mock.patch.object(settle, 'time', later):
        yield
