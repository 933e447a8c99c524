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

"""What os-brick and privsep need before the first call, in one call."""

from oslo_config import cfg


def setup(conf: cfg.ConfigOpts) -> None:
    """Prepare this process; call it once, after the options are parsed.

    Sets os-brick's lock path, both privsep contexts and their logger, and
    oslo.service's threading back end; as root no sudo and no daemon is used.

    :raises MisconfiguredHost: what is wrong and what to do
    """
    raise NotImplementedError
