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

"""os-brick's factory with connectors that do what a test says."""

import copy


class FakeBrick:
    """Remembers how connectors were made and called."""

    def __init__(self):
        self.made = []
        self.calls = []
        self.found = {'type': 'block', 'path': '/dev/sdb'}
        self.size = 2 << 30
        self.raises = {}

    def factory(self, protocol, root_helper, **options):
        self.made.append((protocol, options))
        return self

    def _call(self, name, properties, *rest):
        self.calls.append((name, copy.deepcopy(properties), *copy.deepcopy(rest)))
        # As os-brick's Fibre Channel and NVMe connectors do.
        properties.clear()
        properties['targets'] = 'changed'
        if name in self.raises:
            raise self.raises[name]

    def connect_volume(self, properties):
        self._call('connect', properties)
        return copy.deepcopy(self.found)

    def disconnect_volume(self, properties, device_info, force=False):
        self._call('disconnect', properties, device_info, force)

    def extend_volume(self, properties):
        self._call('extend', properties)
        return self.size
