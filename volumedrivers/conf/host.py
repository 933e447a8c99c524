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

"""This host: paths, its name and address, privilege."""

from oslo_config import cfg

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt('state_path', default='/var/lib/volumedrivers', help='Directory of state and mounts.'),
    cfg.StrOpt('lock_path', help='Directory of lock files, shared with Cinder and Nova; default $state_path/lock.'),
    cfg.StrOpt('host', help='Host name told to Cinder; default: this host\'s.'),
    cfg.StrOpt('my_block_storage_ip', help='Address told to Cinder; default: that of the default route.'),
    cfg.StrOpt('rootwrap_config', default='/etc/volumedrivers/rootwrap.conf', help='Filters for sudo.'),
    cfg.StrOpt('connection_uri', default='qemu:///system', help='libvirt URI.'),
)
