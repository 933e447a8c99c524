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

"""Loaded by nova-compute."""

from oslo_config import cfg

from volumedrivers.conf.prose import prose

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.ListOpt(
        'nova_volume_types',
        default=[],
        help=prose("""
The driver_volume_types, such as ``iscsi, rbd``, whose volumes
volumedrivers-nova-compute connects with the drivers of this package; Nova's own
drivers keep the others.  Empty, it is all types that a driver is installed for,
third-party ones included.  It is read when nova-compute starts; volumes that
are attached then may be of either.
"""),
    ),
)
