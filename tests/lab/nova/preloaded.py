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

"""What every session with a LibvirtDriver needs, imported before there is one.

The server of the RPC names this module once, and forks its sessions from there.
"""

import importlib
import os
import sys

from tests.lab.nova.place import PLACE


def load() -> None:
    """Import all of it; once more costs nothing."""
    if PLACE not in sys.path:
        sys.path.append(PLACE)
    # Nova and os-brick decide when they are imported: threads, not eventlet.
    os.environ['OS_NOVA_DISABLE_EVENTLET_PATCHING'] = 'true'
    importlib.import_module('nova.monkey_patch').patch(backend='threading')
    importlib.import_module('tests.lab.nova.room')


load()
