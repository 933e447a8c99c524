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

"""A scheduler of Cinder that is ready as soon as it knows all back ends, and not before.

Cinder's own looks once, and otherwise waits for whole seconds: the first
volume comes late, or on a slow machine too early.  Cinder loads this one by
option ``scheduler_manager``; nothing of this package imports it.
"""

import time

from cinder import context
from cinder.scheduler import manager
from oslo_config import cfg

from volumedrivers import exception

# Of group [DEFAULT]; for machines that are slower than most.
OPTIONS = (
    cfg.FloatOpt(
        'testing_ready_timeout',
        default=30.0,
        help='Seconds after which a back end that has not said what it can do has failed.',
    ),
)
_AGAIN = 1.0

cfg.CONF.register_opts(OPTIONS)


class PromptSchedulerManager(manager.SchedulerManager):  # type: ignore[misc]
    """Cinder's, but for how it waits when it starts."""

    def init_host_with_rpc(self) -> None:
        """Ask the back ends what they can do until each has answered.

        Each time it waits longer for the answers: a driver that is slow to
        give one is slower when it is asked for several.

        :raises DeadlineExceeded: one did not; Cinder's log says why
        """
        seconds = cfg.CONF.testing_ready_timeout
        end = time.monotonic() + seconds
        pause = _AGAIN
        missing = {f'{cfg.CONF.host}@{name}' for name in cfg.CONF.enabled_backends}
        while True:
            self.request_service_capabilities(context.get_admin_context())
            again = time.monotonic() + pause
            pause *= 2
            while time.monotonic() < again:
                missing -= self.driver.host_manager.service_states.keys()
                if not missing:
                    self._startup_delay = False
                    return
                if time.monotonic() >= end:
                    raise exception.DeadlineExceeded(
                        what=f'Cinder to be ready on {", ".join(sorted(missing))}', seconds=seconds
                    )
                time.sleep(0.01)
